// Finds and opens libmoleblend_chemistry.so.

#include "io/chemistry/chemistry.h"
#include "io/chemistry/factory.h"
#include "io/support/error.h"
#include "io/support/plugin.h"

namespace moleblend {

std::unique_ptr<Chemistry> load_chemistry() {
  constexpr const char* kLibrary = "libmoleblend_chemistry.so";
  const Plugin plugin = open_plugin(kLibrary, kChemistryFactory);
  if (!plugin.symbol) {
    throw Error(
        "reading molecules needs {}, which can't be opened: {}; install libopenbabel7 (to build: libopenbabel-dev, "
        "then "
        "configure with -DMOLEBLEND_OPENBABEL=on), or prepare the data set on a machine that has it",
        kLibrary, plugin.cause);
  }
  std::unique_ptr<Chemistry> chemistry(reinterpret_cast<ChemistryFactory*>(plugin.symbol)(MOLEBLEND_VERSION));
  if (!chemistry) {
    throw Error("{} belongs to another version of moleblend than this one ({}); reinstall moleblend", kLibrary,
                MOLEBLEND_VERSION);
  }
  return chemistry;
}

}  // namespace moleblend
