#pragma once
// The Bemis–Murcko scaffold of a molecule: its rings, what links them, and what is doubly bonded to either. G. W. Bemis, M. A. Murcko,
// "The properties of known drugs. 1. Molecular frameworks", J. Med. Chem. 39 (1996) 2887; in the form that data sets are split by:
// that of RDKit's MurckoScaffoldSmiles without chirality.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dataset/molecule.h"

namespace moleblend {

struct Scaffold {
  std::vector<std::uint32_t> atoms;  // ascending; empty for acyclic molecules
  std::string key;                   // the scaffold as a SMILES, "" for acyclic molecules
};

/// The scaffold of a stored graph (n atoms, bonds between them). What is kept:
///   * the atoms of rings and those on paths between rings of a fragment (all such paths; RDKit takes a shortest one, which is another
///     thing only where misc bonds join two rings twice);
///   * atoms doubly bonded to these (=O, =N, =C), without what hangs on them. Atoms bonded through a single or a triple bond go.
/// Bonds of type misc (dative) close no ring, but link rings. Of a molecule in several fragments all that have rings count.
///
/// The key is the same text exactly for the same scaffold graph, whatever the order of the atoms: elements, formal charges, aromatic
/// atoms, hydrogens and bond types count; chirality, E/Z and isotopes do not. It is a SMILES in a canonical order of this program, not
/// the text that RDKit writes. Where atoms were cut off, hydrogens take their place, as many as the element's usual valence asks for, and
/// one on aromatic atoms that are no carbon: N-methylpyrrole gives pyrrole. Hydrogens that are atoms of their own count as the hydrogens
/// of what they are bonded to, so a molecule has one key with and without them.
///
/// Never equal for different graphs. For graphs beyond the bound of canonical_order() (far from any molecule) two orders of the same atoms
/// may give two keys. Throws Error for a bond to an atom that does not exist.
Scaffold scaffold(std::span<const AtomCodes> atoms, std::span<const Bond> bonds);
Scaffold scaffold(const Molecule& molecule);

}  // namespace moleblend
