#include "apps/input_flags.h"

#include "io/support/error.h"

namespace moleblend {

void InputFlags::resolve(InputOptions& o) const {
  o.inputs.assign(inputs.begin(), inputs.end());
  if (pairs.size() % 2 != 0)
    throw UsageError("--pair {} stands alone; it takes two files, a table and an SDF", pairs.back());
  o.pairs.clear();
  for (std::size_t i = 0; i + 1 < pairs.size(); i += 2) o.pairs.emplace_back(pairs[i], pairs[i + 1]);
  o.read.use_positions = !no_positions;
  o.read.conformers.fallback = !no_fallback;
  o.read.conformers.engine = engine == "rdkit" ? ConformerEngine::rdkit : ConformerEngine::openbabel;
}

void add_input_flags(CLI::App& verb, InputFlags& flags, InputOptions& o) {
  verb.add_option("--input", flags.inputs, "Molecule files, .gz too; the ending says what they hold")
      ->type_name("FILE ...");
  verb.add_option(
          "--pair", flags.pairs,
          "A table and an SDF that belong together record by record: graph and positions from the SDF, SMILES, labels "
          "and identifier from the table. The SDF may end earlier. Can be given several times; pairs come after "
          "--input")
      ->type_name("CSV SDF")
      ->expected(2)
      ->take_all();
  verb.add_option("--format", o.format,
                  "Format of the inputs, whatever their endings say (smi, csv, sdf, … or Open Babel's name)");

  verb.add_option("--smiles-column", o.columns.smiles,
                  "Column of the SMILES in tables (default: the one called smiles, in any case)")
      ->group("Columns");
  verb.add_option("--id-column", o.columns.identifier,
                  "Column or data field that names a molecule (default in an SDF: the title)")
      ->group("Columns");

  verb.add_flag("--keep-hydrogens", o.read.keep_hydrogens, "Keep hydrogens as atoms of their own")->group("Molecules");
  verb.add_option("--max-atoms", o.max_atoms, "Reject molecules with more atoms (0: no bound)")->group("Molecules");
  verb.add_flag("--no-positions", flags.no_positions, "Leave 3D positions of the inputs out")->group("Molecules");
  verb.add_option("--conformers", o.read.conformers.count, "Conformers to build for a molecule that has no positions")
      ->type_name("K")
      ->group("Molecules");
  verb.add_option("--conformer-engine", flags.engine, "Which builds them: openbabel or rdkit")
      ->check(CLI::IsMember({"openbabel", "rdkit"}))
      ->capture_default_str()
      ->group("Molecules");
  verb.add_flag("--no-fallback", flags.no_fallback, "Don't try the other engine where the first fails")
      ->group("Molecules");
  verb.add_option("--force-field-steps", o.read.conformers.force_field_steps, "MMFF94 steps a conformer")
      ->capture_default_str()
      ->group("Molecules");
  verb.add_flag("--require-conformers", o.read.conformers.required,
                "Reject a molecule whose conformers fail (else it is kept without)")
      ->group("Molecules");
  verb.add_option("--seed", o.seed, "Of the conformers")->capture_default_str()->group("Molecules");

  verb.add_option("--workers", o.workers, "Reader processes (0: one a core)")->capture_default_str()->group("Readers");
  verb.add_option("--timeout", o.timeout, "Seconds of processor time that one record may take, conformers included")
      ->capture_default_str()
      ->group("Readers");
  verb.add_option("--memory", o.memory_mb, "MB that a reader process may take (0: no bound)")
      ->capture_default_str()
      ->group("Readers");
}

}  // namespace moleblend
