// Messages of reader processes: of one that ran wild they may be anything.

#include "io/prepare/wire.h"
#include "tests/fuzz/fuzz_target.h"

namespace moleblend::fuzz {
namespace {

template <class T>
void check(std::string_view bytes) {
  T value;
  try {
    Unpacker in(bytes);
    unpack(in, value);
  } catch (const std::out_of_range&) {
    return;  // too short
  }
  ++inputs_read;
  Packer out;
  pack(out, value);
  // Values have one form only, so what was read is what would have been sent.
  must(bytes.starts_with(out.bytes()), "a message changes when sent again");
}

}  // namespace
}  // namespace moleblend::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moleblend;
  const std::string_view bytes = fuzz::text_of(data, size);
  fuzz::check<Molecule>(bytes);
  fuzz::check<Record>(bytes);
  return 0;
}
