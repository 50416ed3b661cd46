# MPI, where it is asked for and there. Sets MOLEBLEND_WITH_MPI, what the configure summary says.

set(MOLEBLEND_WITH_MPI "off")
if(MOLEBLEND_MPI STREQUAL "off" OR MOLEBLEND_SANITIZE)  # MPI libraries are not made for sanitizers; tests have ranks that are threads
  return()
endif()
find_package(MPI COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  if(MOLEBLEND_MPI STREQUAL "on")
    message(FATAL_ERROR "MOLEBLEND_MPI is on, and there is no MPI: install Open MPI (libopenmpi-dev) or MPICH")
  endif()
  set(MOLEBLEND_WITH_MPI "off (no MPI library)")
  return()
endif()
set(MOLEBLEND_WITH_MPI "${MPI_CXX_VERSION}")

# A library of its own, loaded by processes that mpirun or srun has started: all others start without MPI.
add_library(moleblend_mpi SHARED ${PROJECT_SOURCE_DIR}/engine/ranks/mpi/mpi_ranks.cpp)
target_link_libraries(moleblend_mpi PRIVATE moleblend_flags moleblend_engine MPI::MPI_CXX)
# The C interface alone is used.
target_compile_definitions(moleblend_mpi PRIVATE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
set_target_properties(moleblend_mpi PROPERTIES CXX_VISIBILITY_PRESET hidden)
target_link_options(moleblend_mpi PRIVATE -Wl,--exclude-libs,ALL)

