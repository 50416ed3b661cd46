// Preloaded into a program, the mathematical library's erfc is wrong by one part in a hundred, as a broken library's or processor's might be.

#include <dlfcn.h>

extern "C" double erfc(double x) noexcept {
  using Function = double (*)(double);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "erfc"));
  return 1.01 * real(x);
}
