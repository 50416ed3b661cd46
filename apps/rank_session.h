#pragma once
// The ranks of this program, from the verb that asks for them to the end of main.

#include <functional>
#include <optional>
#include <string>

#include "engine/model/make_model.h"
#include "engine/ranks/ranks.h"
#include "engine/training/checkpoint_store.h"
#include "io/dataset/dataset.h"

namespace moleblend {

/// Joins the processes that mpirun or srun has started, or is alone. Once in a process.
Ranks& join_ranks(double deadline_s);

/// Says in one line on standard error, whatever names of files and columns it quotes, what ends the program, with the rank where there are many, and gives `status`. Where the other ranks
/// don't know of it, ends them too.
int end_over(const std::string& what, int status);

/// Waits for the others, where there are any.
void leave_ranks();

/// The remedy where ranks were not started alike.
inline constexpr const char* kSameStart = "start all ranks with the same program, flags and data";
/// What any training on ranks needs before it begins: a molecule of each step for everyone, one version, device and data set. Called by all
/// ranks. Throws UsageError or Error on the first, AnotherRankTells on the others.
void check_same_start(Ranks& ranks, std::int64_t batch_size, const DeviceChoice& place, const Dataset& data);

/// The checkpoint that the first rank finds, on all of them. Called by all ranks.
std::optional<CheckpointStore::Found> share_checkpoint(
    Ranks& ranks, const std::function<std::optional<CheckpointStore::Found>()>& find);

/// One line a rank: where it runs and on what. `place` is this one's.
std::string table_of(Ranks& ranks, const std::string& place);

}  // namespace moleblend
