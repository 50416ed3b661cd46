// Finds and opens libmoleblend_chemistry.so.

#include "io/chemistry/chemistry.h"
#include "io/chemistry/factory.h"
#include "io/support/plugin.h"

namespace moleblend {

std::unique_ptr<Chemistry> load_chemistry() {
  return std::unique_ptr<Chemistry>(
      open_part<Chemistry>({.file = "libmoleblend_chemistry.so",
                            .getter = kChemistryFactory,
                            .need = "reading molecules",
                            .remedy = "install libopenbabel7 (to build: libopenbabel-dev, then configure with "
                                      "-DMOLEBLEND_OPENBABEL=on), or prepare the data set on a machine that has it"}));
}

}  // namespace moleblend
