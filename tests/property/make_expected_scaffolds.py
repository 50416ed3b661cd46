#!/usr/bin/env python3
"""Writes the expected values of test_scaffold.cpp with RDKit: python3 make_expected_scaffolds.py [FOLDER]

FOLDER holds smiles.tsv.gz, a table of molecules with their features (tests/features); without it its scaffolds are not written anew.
"""

import gzip
import pathlib
import sys

from rdkit import Chem, RDLogger, rdBase
from rdkit.Chem.Scaffolds import MurckoScaffold

HERE = pathlib.Path(__file__).parent
RDLogger.DisableLog("rdApp.*")

# What cutting can do to an atom, and what must be told apart.
CASES = """
CCO C=C=C C1CC1 C1CC1C c1ccccc1 Cc1ccccc1 Oc1ccccc1 c1ccccc1.c1ccccc1 [Na+].[O-]c1ccccc1 CCO.C1CC1.CC O=C1CCCCC1 O=S1(=O)CCCCC1
CS(=O)(=O)c1ccccc1 C1CC1C(=O)C1CC1 C1CC1C(=C)C1CC1 CC=C1CC1 C1CC1/C=C/C1CC1 C1CC1/C=C\\C1CC1 C1CC1/C(F)=C/C1CC1 C[C@H]1CCCC[C@@H]1O
C[C@@H]1CCCC[C@@H]1O c1ccccc1C#Cc1ccccc1 N#CC1CC1 N#CC=C1CC1 C1CC1N=[N+]=[N-] [N-]=[N+]=C1CC1 C1CC1=NO C1CC1=N C1CC1=[NH2+] C[N+](C)=C1CC1
C1CC1=[N+](C)[O-] O=[N+]([O-])c1ccccc1 Cn1cccc1 c1cc[nH]c1 C[n+]1ccccc1 [O-][n+]1ccccc1 Fc1cc[nH+]cc1 c1ccncc1 C[o+]1cccc1 C[s+]1cccc1
O=s1cccc1 Cc1c[nH]c(=O)[nH]1 Oc1ccccn1 O=c1cccc[nH]1 C[c-]1cccc1 c1cc[cH-]c1 Cp1cccc1 C[N+]1(C)CCCCC1 C[NH+]1CCCCC1 C1CC[NH2+]CC1
C1CCNCC1 CN1CCCCC1 C1CC1[N+](C)(C)C1CC1 C[N+]1=CCCC1 [O-][N+]1=CCCC1 C=[N+]1CCCC1 C[Si]1(C)CCCC1 C1CC1[Si](C)(C)C1CC1 CP1CCCC1
CP1(=O)CCCC1 C[P]1(C)(C)CCCC1 O=P1(O)OCCO1 C1CC1P(=O)(O)C1CC1 C[S+]1CCCC1 C[S@+]([O-])C1CC1 [O-][S+](C1CC1)C1CC1 CS1=CCCC1 CS1(C)CCCC1
[SH2]=C1CC1 C[B]1CCCC1 C[B-]1(C)CCCC1 F[B-](F)(F)c1ccccc1 [O-]B1CCCC1 C[C-]1CCCC1 C[C+]1CCCC1 [CH]1CCCC1 C[C]1CCCC1 [CH2]C1CCCC1
CI1CCCC1 c1ccccc1[I+]c1ccccc1 C[As]1CCCC1 C[Sn]1(C)CCCC1 C[Pt]1(C)NCCN1 [Cu]<-1NCCN1 C1CC1N->[Cu]<-NC1CC1 [2H]c1ccccc1 [13CH2]1CC1
C12C3C4C1C5C2C3C45 C1C2CC3CC1CC(C2)C3 c1ccc2ccccc2c1 c1ccc2cccc2cc1 C1CCC2CCCCC2C1 C1CCC2(CC1)CCCCC2 C1CC2CCC1CC2 c1ccc(-c2ccccc2)cc1
C1=CCCC=C1 C1=CCC=CC1 C1CCCCC1C1CCCCC1 C1CCCCC1CC1CCCCC1 c1ccc(P(c2ccccc2)c2ccccc2)cc1 c1ccc([Si](c2ccccc2)(c2ccccc2)c2ccccc2)cc1
c1ccc(C(c2ccccc2)(c2ccccc2)c2ccccc2)cc1 C1COCCOCCOCCOCCOCCO1 O=C1c2ccccc2C(=O)c2ccccc21 C1CC11CC1 C1CC12CC2C1CC1 COc1cccc2c1[OH+][Cu-3]1(O)[O+]=C(N)[N-][N+]1=C2 O=C1NC(=O)C(=C2CC2)C(=O)N1
""".split()


def features(molecule):
    """The nine OGB categories of each atom, and begin, end, type, stereo, conjugated of each bond."""
    hybridisation = ["SP", "SP2", "SP3", "SP3D", "SP3D2"]
    bond_types = ["SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"]
    atoms = []
    for atom in molecule.GetAtoms():
        kind = str(atom.GetHybridization())
        atoms.append([atom.GetAtomicNum() - 1, min(int(atom.GetChiralTag()), 3), min(atom.GetTotalDegree(), 11),
                      atom.GetFormalCharge() + 5, min(atom.GetTotalNumHs(), 9), min(atom.GetNumRadicalElectrons(), 5),
                      hybridisation.index(kind) if kind in hybridisation else 5, int(atom.GetIsAromatic()), int(atom.IsInRing())])
    bonds = []
    for bond in molecule.GetBonds():
        kind = str(bond.GetBondType())
        bonds.append([bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond_types.index(kind) if kind in bond_types else 4, 0,
                      int(bond.GetIsConjugated())])
    return [";".join(",".join(map(str, row)) for row in rows) for rows in (atoms, bonds)]


def scaffold(molecule):
    """Indices of the scaffold's atoms in the molecule, and MurckoScaffoldSmiles without chirality."""
    marked = Chem.Mol(molecule)
    for atom in marked.GetAtoms():
        atom.SetIntProp("index", atom.GetIdx())
    kept = MurckoScaffold.GetScaffoldForMol(marked)
    return sorted(atom.GetIntProp("index") for atom in kept.GetAtoms()), MurckoScaffold.MurckoScaffoldSmiles(mol=molecule)


def ranges(indices):
    """1,2,3,7 as 1-3 7."""
    text, first = [], 0
    for k in range(1, len(indices) + 1):
        if k == len(indices) or indices[k] != indices[k - 1] + 1:
            text.append(str(indices[first]) if k == first + 1 else f"{indices[first]}-{indices[k - 1]}")
            first = k
    return " ".join(text)


def rows(smiles_list, with_smiles):
    """A line a molecule: its SMILES if wanted, the scaffold's atoms, the scaffold's SMILES or, if it came before, the number
    of that line from 0. Dashes for what RDKit refuses."""
    first = {}
    for line, smiles in enumerate(smiles_list):
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            yield "-\t-"
            continue
        atoms, key = scaffold(molecule)
        group = f"={first[key]}" if key in first else key
        first.setdefault(key, line)
        yield "\t".join(([smiles] if with_smiles else []) + [ranges(atoms), group])


def main():
    made = f"# made by make_expected_scaffolds.py with RDKit {rdBase.rdkitVersion}\n"
    with open(HERE / "data/scaffold_cases.tsv", "w") as out:
        out.write(made + "source\tsmiles\tatoms\tbonds\tscaffold atoms\tscaffold\n")
        for smiles in CASES:
            molecule = Chem.MolFromSmiles(smiles)
            atoms, key = scaffold(molecule)
            out.write("\t".join(["case", smiles, *features(molecule), ranges(atoms), key]) + "\n")
    examples = [line.split()[0] for line in open(HERE / "../../examples/molecules.smi")]
    with open(HERE / "data/example_scaffolds.tsv", "w") as out:
        out.write(made)
        out.writelines(row + "\n" for row in rows(examples, True))
    if len(sys.argv) > 1:
        with gzip.open(pathlib.Path(sys.argv[1]) / "smiles.tsv.gz", "rt") as table:
            smiles = [line.split("\t")[1] for line in list(table)[1:]]
        text = made + "".join(row + "\n" for row in rows(smiles, False))
        (HERE / "data/moleculenet_scaffolds.tsv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


main()
