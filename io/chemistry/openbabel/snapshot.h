#pragma once
// Open Babel's molecule → MolecularGraph.

#include <cstdint>
#include <vector>

#include "io/chemistry/openbabel/record.h"
#include "io/chemistry/rules/molecular_graph.h"

namespace moleblend::chemistry {

struct Snapshot {
  MolecularGraph graph;
  std::vector<unsigned> source;  // for each atom of the graph, Open Babel's atom index (from 1)
};

/// Perceives aromaticity, rings and stereo; folds hydrogens into their neighbours unless told to keep them. Stereo
/// comes from the positions where the record has 3D ones, from wedges or SMILES marks otherwise.
Snapshot take_snapshot(Record& record, bool keep_hydrogens);

}  // namespace moleblend::chemistry
