#pragma once
// What the program asks of libmoleblend_mpi.so: one program for machines with and without MPI.

#include <memory>

#include "engine/ranks/ranks.h"

namespace moleblend {

struct MpiOptions {
  /// How long a rank waits for the others in one exchange before it ends the run.
  double deadline_s = 600;
};

class MpiPart {
 public:
  virtual ~MpiPart() = default;
  /// Joins the processes that mpirun or srun has started; once in a process. Its end waits for all ranks. Throws Error.
  virtual std::unique_ptr<Ranks> start(const MpiOptions& options) const = 0;
};

/// The one symbol that the library exports. Gives null if the program that asks has another version.
using MpiPartGetter = const MpiPart*(const char* program_version);
constexpr const char* kMpiPartGetter = "moleblend_mpi_part";

}  // namespace moleblend
