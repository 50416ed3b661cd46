#pragma once
// What the executor tells the sanitizer that the program carries, if it carries one. The executor itself carries none, so that it finds
// out at run time: the functions of a sanitizer that is not there are null.

#include <cstddef>

extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void**, const void*, std::size_t);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void*, const void**, std::size_t*);
__attribute__((weak)) void __asan_poison_memory_region(void const volatile*, std::size_t);
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile*, std::size_t);
__attribute__((weak)) void* __tsan_get_current_fiber(void);
__attribute__((weak)) void* __tsan_create_fiber(unsigned);
__attribute__((weak)) void __tsan_destroy_fiber(void*);
__attribute__((weak)) void __tsan_switch_to_fiber(void*, unsigned);
__attribute__((weak)) void __tsan_set_fiber_name(void*, const char*);
__attribute__((weak)) void __tsan_acquire(void*);
__attribute__((weak)) void __tsan_release(void*);
}

namespace cuda_on_cpu {

inline bool under_asan() {
  return __asan_poison_memory_region != nullptr;
}
inline bool under_tsan() {
  return __tsan_create_fiber != nullptr;
}

// AddressSanitizer: memory that kernels may not touch.
inline void poison(const void* p, std::size_t bytes) {
  if (under_asan()) __asan_poison_memory_region(p, bytes);
}
inline void unpoison(const void* p, std::size_t bytes) {
  if (under_asan()) __asan_unpoison_memory_region(p, bytes);
}

// AddressSanitizer: it follows from stack to stack. `fake_stack` is what it keeps for the fiber that is left; null where that one ends.
inline void leave_stack(void** fake_stack, const void* next_stack, std::size_t next_bytes) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(fake_stack, next_stack, next_bytes);
}
inline void enter_stack(void* fake_stack) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

// ThreadSanitizer: what was done before release(p) comes before what is done after a later acquire(p).
inline void release(void* p) {
  if (under_tsan()) __tsan_release(p);
}
inline void acquire(void* p) {
  if (under_tsan()) __tsan_acquire(p);
}
/// Without an order between the two fibers: CUDA threads run concurrently.
inline void switch_tsan_fiber(void* fiber) {
  constexpr unsigned kNoOrder = 1;
  if (under_tsan()) __tsan_switch_to_fiber(fiber, kNoOrder);
}

}  // namespace cuda_on_cpu
