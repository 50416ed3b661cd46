# CUDA, where it is asked for and there. Sets
#   MOLEBLEND_WITH_CUDA      what the configure summary says: the version of nvcc, or why there is none
#   MOLEBLEND_CUDA_SOURCES   every .cu of the program; each is compiled by nvcc, and by the host compiler for the executor of the tests
#   MOLEBLEND_CUDA_NETWORK   the network on a GPU: plain C++, for the host compiler
#   MOLEBLEND_CUDA_HEADERS   folder of cuda_runtime.h for the executor; empty if there is none
#   MOLEBLEND_WITH_CUDNN     the same of cuDNN's attention, which `moleblend bench` measures beside ours
#   MOLEBLEND_WITH_NCCL      the same of NCCL, which adds up gradients between GPUs
# and the target moleblend_nccl, for those that compile the network on a GPU.
# Kernels are compiled for A100 (sm_80) and Hopper (sm_90), and as PTX for what comes after.

set(MOLEBLEND_WITH_CUDA "off")
set(MOLEBLEND_WITH_CUDNN "off")
set(MOLEBLEND_WITH_NCCL "off")
file(GLOB_RECURSE MOLEBLEND_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)
set(MOLEBLEND_CUDA_NETWORK ${PROJECT_SOURCE_DIR}/engine/cuda/library_cuda.cpp
  ${PROJECT_SOURCE_DIR}/engine/ranks/gpu/gpu_gradient_sum.cpp)
# Where the toolkit may be; the last is where scripts/setup.sh puts one if there is none.
set(cuda_folders $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
if(DEFINED ENV{XDG_DATA_HOME})
  set(own_folder $ENV{XDG_DATA_HOME}/moleblend)
else()
  set(own_folder $ENV{HOME}/.local/share/moleblend)
endif()
list(APPEND cuda_folders ${own_folder}/cuda)
find_path(MOLEBLEND_CUDA_HEADERS cuda_runtime.h HINTS ${CUDAToolkit_ROOT} PATHS ${cuda_folders} PATH_SUFFIXES include NO_CACHE)
if(NOT MOLEBLEND_CUDA_HEADERS)
  set(MOLEBLEND_CUDA_HEADERS "")
endif()
# Its header is all that a build needs of NCCL: a run of many ranks opens the library.
add_library(moleblend_nccl INTERFACE)
find_path(nccl_headers nccl.h HINTS ${MOLEBLEND_CUDA_HEADERS} ENV NCCL_HOME PATHS ${cuda_folders} PATH_SUFFIXES include NO_CACHE)
if(NOT nccl_headers)
  set(MOLEBLEND_WITH_NCCL "off (no nccl.h)")
elseif(MOLEBLEND_CUDA_HEADERS)
  set(MOLEBLEND_WITH_NCCL "on")
  list(APPEND MOLEBLEND_CUDA_NETWORK ${PROJECT_SOURCE_DIR}/engine/ranks/gpu/nccl_library.cpp
    ${PROJECT_SOURCE_DIR}/engine/ranks/gpu/nccl_group.cpp ${PROJECT_SOURCE_DIR}/engine/ranks/gpu/nccl_gradient_sum.cpp)
  target_compile_definitions(moleblend_nccl INTERFACE MOLEBLEND_WITH_NCCL)
  target_include_directories(moleblend_nccl SYSTEM INTERFACE ${nccl_headers} ${MOLEBLEND_CUDA_HEADERS})
  target_link_libraries(moleblend_nccl INTERFACE ${CMAKE_DL_LIBS})
endif()

if(MOLEBLEND_CUDA STREQUAL "off" OR MOLEBLEND_SANITIZE)
  return()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  find_program(nvcc nvcc HINTS ${CUDAToolkit_ROOT} PATHS ${cuda_folders} PATH_SUFFIXES bin NO_CACHE)
  if(nvcc)
    set(CMAKE_CUDA_COMPILER ${nvcc})
  endif()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  if(MOLEBLEND_CUDA STREQUAL "on")
    message(FATAL_ERROR "MOLEBLEND_CUDA is on, and there is no nvcc: install the CUDA toolkit, or name it with -DCMAKE_CUDA_COMPILER=…/nvcc")
  endif()
  set(MOLEBLEND_WITH_CUDA "off (no nvcc)")
  return()
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90")
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc does
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
find_package(CUDAToolkit REQUIRED)
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
# Beside each object, what its kernels take of a multiprocessor.
list(PREPEND CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/scripts/cuda_compile.sh)
set(MOLEBLEND_WITH_CUDA "${CMAKE_CUDA_COMPILER_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES}")

# Headers are all that a build needs of cuDNN: bench opens the library when it runs. scripts/setup.sh brings those of the frontend.
find_path(MOLEBLEND_CUDNN_HEADERS cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS} $ENV{CUDNN_PATH} PATHS ${cuda_folders}
  PATH_SUFFIXES include)
find_path(MOLEBLEND_CUDNN_FRONTEND cudnn_frontend.h HINTS $ENV{CUDNN_PATH} PATHS ${own_folder}/cudnn-frontend ${cuda_folders}
  PATH_SUFFIXES include)
mark_as_advanced(MOLEBLEND_CUDNN_HEADERS MOLEBLEND_CUDNN_FRONTEND)
if(NOT MOLEBLEND_CUDNN_HEADERS)
  set(MOLEBLEND_WITH_CUDNN "off (no cudnn_graph.h)")
elseif(NOT MOLEBLEND_CUDNN_FRONTEND)
  set(MOLEBLEND_WITH_CUDNN "off (no cudnn_frontend.h)")
else()
  set(MOLEBLEND_WITH_CUDNN "on")
endif()

# The CUDA part is a library of its own, loaded when --device cuda is asked for: one program for machines with and without.
set(MOLEBLEND_CUDA_WARNINGS -Wall -Wextra -Wno-psabi -Wno-unused-parameter)
if(MOLEBLEND_WERROR)
  list(APPEND MOLEBLEND_CUDA_WARNINGS -Werror)
endif()
list(JOIN MOLEBLEND_CUDA_WARNINGS "," cuda_host_options)
add_library(moleblend_cuda_flags INTERFACE)
target_include_directories(moleblend_cuda_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(moleblend_cuda_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr -lineinfo -Xcompiler=${cuda_host_options}>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${MOLEBLEND_WERROR}>>:-Werror=all-warnings>)
add_library(moleblend_cuda_objects OBJECT ${MOLEBLEND_CUDA_SOURCES})
target_link_libraries(moleblend_cuda_objects PRIVATE moleblend_cuda_flags PUBLIC CUDA::cudart_static CUDA::cublasLt)
# Compressed, code with its line numbers takes a fifth of the room.
target_compile_options(moleblend_cuda_objects PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xfatbin=-compress-all>)
# Other libraries' operations, for comparison.
if(MOLEBLEND_WITH_CUDNN STREQUAL "on")
  add_library(moleblend_cuda_libraries OBJECT ${PROJECT_SOURCE_DIR}/engine/bench/cudnn_attention_cuda.cpp)
  target_include_directories(moleblend_cuda_libraries SYSTEM PRIVATE ${MOLEBLEND_CUDNN_FRONTEND} ${MOLEBLEND_CUDNN_HEADERS}
    ${CUDAToolkit_INCLUDE_DIRS})
  # It only hands work on, and its headers take minutes with -O3.
  target_compile_options(moleblend_cuda_libraries PRIVATE -O1)
else()
  add_library(moleblend_cuda_libraries OBJECT ${PROJECT_SOURCE_DIR}/engine/bench/no_cudnn_cuda.cpp)
endif()
target_link_libraries(moleblend_cuda_libraries PRIVATE moleblend_flags fmt::fmt PUBLIC ${CMAKE_DL_LIBS})
add_library(moleblend_cuda SHARED ${MOLEBLEND_CUDA_NETWORK})
target_link_libraries(moleblend_cuda PRIVATE moleblend_flags moleblend_engine moleblend_cuda_objects moleblend_cuda_libraries
  moleblend_nccl)
# Only the factory is visible, so that nothing of ours meets the program's own symbols.
set_target_properties(moleblend_cuda PROPERTIES CXX_VISIBILITY_PRESET hidden)
target_link_options(moleblend_cuda PRIVATE -Wl,--exclude-libs,ALL)
