// Address spaces, what is checked of accesses, and what is counted of them.

#include <algorithm>
#include <sstream>

#include "machine_test.h"

namespace ptx_on_cpu::testing {
namespace {

bool says(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

constexpr const char* kDynamic = ".extern .shared .align 16 .b8 room[];\n";

TEST(Memory, SmallTypesExtendAndVectorsKeepTheirOrder) {
  const std::vector<std::uint64_t> in = {0x807FFF01, 0x8888777766665555};
  EXPECT_EQ(words("ld.global.s8 %r0, [%rd1+3];", 1, 0, "", in)[0], 0xFFFFFF80u);
  EXPECT_EQ(words("ld.global.u8 %r0, [%rd1+3];", 1, 0, "", in)[0], 0x80u);
  EXPECT_EQ(words("ld.global.s16 %r0, [%rd1+2];", 1, 0, "", in)[0], 0xFFFF807Fu);
  EXPECT_EQ(words("ld.global.s32 %rd5, [%rd1];\nshr.u64 %rd5, %rd5, 32;\ncvt.u32.u64 %r0, %rd5;", 1, 0, "", in)[0],
            0xFFFFFFFFu);
  EXPECT_EQ(words("ld.global.v2.u32 {%r2, %r0}, [%rd1+8];", 1, 0, "", in)[0], 0x88887777u);
  EXPECT_EQ(words("ld.global.v4.u16 {%rs1, %rs2, %rs3, %rs4}, [%rd1+8];\nmov.b32 %r0, {%rs4, %rs2};", 1, 0, "", in)[0],
            0x66668888u);
  EXPECT_EQ(words("ld.global.nc.L1::no_allocate.v2.u32 {_, %r0}, [%rd1+8];", 1, 0, "", in)[0], 0x88887777u);
}

TEST(Memory, ParametersLieOneAfterTheOther) {
  Module module(std::string(kHead) +
                ".visible .entry p(.param .u8 p_0, .param .align 8 .b8 p_1[24], .param .u32 p_2, .param .u64 p_3)\n{\n"
                ".reg .b32 %r<8>; .reg .b64 %rd<8>;\n"
                "ld.param.u8 %r1, [p_0];\nmov.b64 %rd1, p_1;\nld.param.u64 %rd2, [%rd1+16];\nld.param.u32 %r2, [p_2];\n"
                "ld.param.u64 %rd3, [p_3];\ncvt.u32.u64 %r3, %rd2;\nadd.s32 %r4, %r1, %r2;\nadd.s32 %r4, %r4, %r3;\n"
                "st.global.u32 [%rd3], %r4;\n}\n");
  const auto kernel = Decoder::decode(module, module.entries().at("p"));
  DeviceArray<std::uint32_t> out({0});
  std::uint8_t a = 200;
  std::uint64_t b[3] = {1, 2, 4000};
  std::uint32_t c = 30000;
  std::uint32_t* d = out.data();
  void* arguments[] = {&a, b, &c, &d};
  launch(*kernel, {}, {}, 0, arguments);
  EXPECT_EQ(out[0], 34200u);
}

TEST(Memory, SharedMemoryIsFreshInEveryBlockAndGenericAddressesReachIt) {
  const char* shared = ".shared .align 8 .b8 own[64];\n";
  EXPECT_EQ(words(std::string(shared) + "ld.shared.u32 %r0, [own+60];", 1)[0], 0xFFFFFFFFu);
  EXPECT_EQ(
      words(std::string(shared) +
                "st.shared.u32 [own+8], 7;\nmov.u64 %rd5, own;\ncvta.shared.u64 %rd6, %rd5;\nld.u32 %r0, [%rd6+8];",
            1)[0],
      7u);
  EXPECT_EQ(words(std::string(shared) + "mov.u64 %rd5, own;\ncvta.shared.u64 %rd6, %rd5;\nst.u32 [%rd6+8], 9;\n"
                                        "cvta.to.shared.u64 %rd7, %rd6;\nadd.s64 %rd7, %rd7, 8;\ncvt.u32.u64 %r5, "
                                        "%rd7;\nld.shared.u32 %r0, [%r5];",
                  1)[0],
            9u);
  // A second block does not find what the first left.
  const TestKernel kernel(
      std::string(shared) +
      "ld.shared.u32 %r2, [own];\nst.shared.u32 [own], 5;\nmov.u32 %r3, %ctaid.x;\nmul.wide.u32 %rd5, %r3, 4;\n"
      "add.s64 %rd5, %rd2, %rd5;\nst.global.u32 [%rd5], %r2;");
  DeviceArray<std::uint32_t> in({0}), out({1, 1, 1});
  kernel.run(in.data(), out.data(), 1, 3);
  EXPECT_EQ(out.values(), std::vector<std::uint32_t>(3, 0xFFFFFFFFu));
}

TEST(Memory, DynamicSharedMemoryComesAfterTheKernelsOwn) {
  const std::string body =
      ".shared .align 4 .b8 own[20];\nmov.u32 %r2, room;\nmov.u32 %r3, own;\nsub.s32 %r0, %r2, %r3;";
  EXPECT_EQ(words(body, 1, 16, kDynamic)[0], 32u);  // aligned to 16
}

TEST(Memory, EveryThreadHasItsLocalMemory) {
  const auto values = words(
      ".local .align 8 .b8 depot[16];\n.reg .b64 %SP, %SPL;\n"
      "mov.b64 %SPL, depot;\ncvta.local.u64 %SP, %SPL;\nst.local.u32 [%SPL+4], %r1;\nld.u32 %r2, [%SP+4];\n"
      "mov.u32 %r3, 100;\nst.u32 [%SP+8], %r3;\nld.local.u32 %r4, [%SPL+8];\nadd.s32 %r0, %r2, %r4;",
      64);
  for (std::size_t t = 0; t < 64; ++t) EXPECT_EQ(values[t], t + 100) << t;
  EXPECT_TRUE(says(failure_of(".local .align 8 .b8 depot[16];\nmov.b64 %rd5, depot;\nld.local.u32 %r0, [%rd5+16];"),
                   "outside of local"));
}

TEST(Memory, AtomicOperationsOfAllBlocksAddUp) {
  const TestKernel kernel(
      "atom.global.add.u32 %r2, [%rd2], 3;\nred.global.max.s32 [%rd2+4], %r1;\nred.global.add.f32 [%rd2+8], "
      "0f3F000000;\n"
      "setp.ne.s32 %p1, %r1, 0;\n@%p1 bra $end;\natom.global.cas.b32 %r3, [%rd2+12], 7, 9;\n$end:");
  DeviceArray<std::uint32_t> in({0}), out({0, 0, 0, 7});
  kernel.run(in.data(), out.data(), 128, 50);
  EXPECT_EQ(out[0], 128u * 50 * 3);
  EXPECT_EQ(out[1], 127u);
  EXPECT_EQ(std::bit_cast<float>(out[2]), 3200.0f);
  EXPECT_EQ(out[3], 9u);
  EXPECT_EQ(words(".shared .align 4 .b8 own[4];\nst.shared.u32 [own], 0;\nbar.sync 0;\natom.shared.add.u32 %r2, [own], "
                  "1;\nbar.sync 0;\n"
                  "ld.shared.u32 %r0, [own];",
                  96)[95],
            96u);
}

TEST(Checks, MisalignedAccessesFail) {
  EXPECT_EQ(failure_of("ld.global.u32 %r0, [%rd1+4];"), "");
  EXPECT_TRUE(says(failure_of("ld.global.u32 %r0, [%rd1+2];"), "misaligned"));
  EXPECT_TRUE(says(failure_of("ld.global.v2.u32 {%r0, %r2}, [%rd1+4];"), "8 bytes at the misaligned address"));
  EXPECT_TRUE(says(failure_of("st.global.u16 [%rd2+1], %rs1;"), "misaligned"));
  EXPECT_TRUE(says(failure_of("ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [room+8];", 32, 64, kDynamic), "misaligned"));
  // Of one lane only, which is named.
  const std::string message = failure_of(
      "setp.eq.s32 %p1, %r1, 5;\nselp.b64 %rd5, 1, 0, %p1;\nadd.s64 %rd5, %rd1, %rd5;\nld.global.u32 %r0, [%rd5];");
  EXPECT_TRUE(says(message, "lane 5") && says(message, "warp 0") && says(message, "block (0, 0, 0)")) << message;
  EXPECT_TRUE(says(message, "ld.global.u32 %r0, [%rd5]")) << message;
}

TEST(Checks, AccessesOutsideFail) {
  EXPECT_EQ(failure_of("ld.global.u8 %r0, [%rd1+7];"), "");  // 8 bytes
  EXPECT_TRUE(says(failure_of("ld.global.u8 %r0, [%rd1+8];"), "outside of allocated memory"));
  EXPECT_TRUE(says(failure_of("ld.global.u8 %r0, [%rd1+-1];"), "outside of allocated memory"));
  EXPECT_TRUE(says(failure_of("st.global.u64 [%rd2+256], %rd1;"), "outside of allocated memory"));  // 32 of 8
  EXPECT_TRUE(says(failure_of("mov.u64 %rd5, 0;\nld.global.u32 %r0, [%rd5];"), "outside of allocated memory"));
  EXPECT_TRUE(says(failure_of("mov.u64 %rd5, 0;\nld.u32 %r0, [%rd5];"), "outside of allocated memory"));
  EXPECT_TRUE(says(failure_of("atom.global.add.u32 %r0, [%rd1+8], 1;"), "outside of allocated memory"));
  EXPECT_EQ(failure_of("ld.shared.u32 %r0, [room+60];", 32, 64, kDynamic), "");
  EXPECT_TRUE(says(failure_of("ld.shared.u32 %r0, [room+64];", 32, 64, kDynamic), "byte 64 of 64"));
  EXPECT_TRUE(says(failure_of("ld.shared.u32 %r0, [room+-4];", 32, 64, kDynamic), "outside of shared memory"));
  EXPECT_TRUE(says(failure_of("ld.shared.u32 %r0, [0];", 32, 64, kDynamic), "outside of shared memory"));
  EXPECT_TRUE(
      says(failure_of("mov.u64 %rd5, room;\ncvta.shared.u64 %rd5, %rd5;\nld.u32 %r0, [%rd5+64];", 32, 64, kDynamic),
           "outside"));
  // Lanes that do not take part may point anywhere.
  EXPECT_EQ(
      failure_of("setp.ge.s32 %p1, %r1, 1;\n@%p1 bra $end;\nadd.s64 %rd5, %rd1, %rd3;\nsub.s64 %rd5, %rd5, %rd2;\n"
                 "ld.global.u64 %rd6, [%rd5];\n$end:\nmov.u32 %r0, 1;"),
      "");
}

TEST(Checks, MemoryThatWasFreedIsOutside) {
  const TestKernel kernel("ld.global.u32 %r2, [%rd1];");
  DeviceArray<std::uint64_t> out({0});
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 64), cudaSuccess);
  EXPECT_NO_THROW(kernel.run(p, out.data(), 1));
  ASSERT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_THROW(kernel.run(p, out.data(), 1), LaunchFailure);
}

TEST(Checks, MoreThreadsThanTheKernelWasCompiledForFail) {
  const TestKernel kernel("", "", ".maxntid 64, 1, 1\n.minnctapersm 2\n");
  DeviceArray<std::uint64_t> in({0});
  EXPECT_NO_THROW(kernel.run(in.data(), in.data(), 64));
  EXPECT_THROW(kernel.run(in.data(), in.data(), 65), LaunchFailure);
}

// ---- counts -------------------------------------------------------------------------------------
/// Counts of one warp that runs `body` in dynamic shared memory of 64 KiB and on 64 KiB of global memory.
Counts counts_of(const std::string& body, unsigned threads = 32) {
  const TestKernel kernel("mov.u32 %r10, room;\n" + body, kDynamic);
  DeviceArray<std::uint64_t> in(std::vector<std::uint64_t>(8192, 0)), out(std::vector<std::uint64_t>(8192, 0));
  clear_counts();
  kernel.run(in.data(), out.data(), threads, 1, 65536);
  return counted();
}
/// Lane l's address in shared memory: base + l · stride.
std::string shared_stride(int bytes) {
  return "mad.lo.s32 %r11, %r1, " + std::to_string(bytes) + ", %r10;\n";
}
std::string global_stride(int bytes, int first = 0) {
  return "mul.wide.u32 %rd5, %r1, " + std::to_string(bytes) + ";\nadd.s64 %rd5, %rd1, %rd5;\nadd.s64 %rd5, %rd5, " +
         std::to_string(first) + ";\n";
}

TEST(Counting, BankConflicts) {
  const auto loads = [](int stride, const std::string& load) {
    const Counts c = counts_of(shared_stride(stride) + load);
    EXPECT_EQ(c.of(Class::shared_load), 1u);
    return c.shared_load_wavefronts;
  };
  EXPECT_EQ(loads(4, "ld.shared.u32 %r2, [%r11];"), 1u);
  EXPECT_EQ(loads(8, "ld.shared.u32 %r2, [%r11];"), 2u);
  EXPECT_EQ(loads(12, "ld.shared.u32 %r2, [%r11];"), 1u);
  EXPECT_EQ(loads(16, "ld.shared.u32 %r2, [%r11];"), 4u);
  EXPECT_EQ(loads(128, "ld.shared.u32 %r2, [%r11];"), 32u);
  EXPECT_EQ(loads(132, "ld.shared.u32 %r2, [%r11];"), 1u);
  EXPECT_EQ(loads(0, "ld.shared.u32 %r2, [%r11];"), 1u);   // broadcast
  EXPECT_EQ(loads(2, "ld.shared.u16 %rs2, [%r11];"), 1u);  // two in a word
  EXPECT_EQ(loads(64, "ld.shared.u16 %rs2, [%r11];"), 16u);
  EXPECT_EQ(loads(8, "ld.shared.u64 %rd6, [%r11];"), 2u);
  EXPECT_EQ(loads(16, "ld.shared.v2.u32 {%r2, %r3}, [%r11];"), 4u);
  EXPECT_EQ(loads(16, "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r11];"), 4u);
  EXPECT_EQ(loads(0, "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r11];"), 4u);
  EXPECT_EQ(loads(128, "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r11];"), 32u);
  const Counts stores = counts_of(shared_stride(8) + "st.shared.u32 [%r11], 1;\nst.shared.u32 [%r11], 2;");
  EXPECT_EQ(stores.of(Class::shared_store), 2u);
  EXPECT_EQ(stores.shared_store_wavefronts, 4u);
  // The same instruction, with another pattern each time: strides of 4, 8, 16, 32 bytes.
  const Counts loop = counts_of(
      "mov.u32 %r20, 4;\n$loop:\nmul.lo.s32 %r11, %r1, %r20;\nadd.s32 %r11, %r11, %r10;\nld.shared.u32 %r2, [%r11];\n"
      "shl.b32 %r20, %r20, 1;\nsetp.le.s32 %p1, %r20, 32;\n@%p1 bra $loop;");
  EXPECT_EQ(loop.shared_load_wavefronts, 1u + 2 + 4 + 8);
  // Half a warp.
  EXPECT_EQ(counts_of(shared_stride(128) + "ld.shared.u32 %r2, [%r11];", 16).shared_load_wavefronts, 16u);
}

TEST(Counting, Sectors) {
  const auto loads = [](const std::string& address, const std::string& load, std::uint64_t bytes) {
    const Counts c = counts_of(address + load);
    EXPECT_EQ(c.of(Class::global_load), 1u);
    EXPECT_EQ(c.load_bytes, bytes);
    return c.load_sectors;
  };
  EXPECT_EQ(loads(global_stride(4), "ld.global.u32 %r2, [%rd5];", 128), 4u);
  EXPECT_EQ(loads(global_stride(4, 4), "ld.global.u32 %r2, [%rd5];", 128), 5u);
  EXPECT_EQ(loads(global_stride(8), "ld.global.u32 %r2, [%rd5];", 128), 8u);
  EXPECT_EQ(loads(global_stride(32), "ld.global.u32 %r2, [%rd5];", 128), 32u);
  EXPECT_EQ(loads(global_stride(128), "ld.global.u32 %r2, [%rd5];", 128), 32u);
  EXPECT_EQ(loads(global_stride(0), "ld.global.u32 %r2, [%rd5];", 128), 1u);
  EXPECT_EQ(loads(global_stride(2), "ld.global.u16 %rs2, [%rd5];", 64), 2u);
  EXPECT_EQ(loads(global_stride(16), "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd5];", 512), 16u);
  // The same instruction four times, each time 8 bytes on.
  const Counts loop = counts_of(global_stride(4) +
                                "mov.u32 %r20, 0;\n$loop:\nld.global.u32 %r2, [%rd5];\nadd.s64 %rd5, %rd5, 8;\n"
                                "add.s32 %r20, %r20, 1;\nsetp.lt.s32 %p1, %r20, 4;\n@%p1 bra $loop;");
  EXPECT_EQ(loop.load_sectors, 4u + 5 + 5 + 5);
  const Counts store = counts_of(global_stride(4) + "st.global.u32 [%rd5], 1;");
  EXPECT_EQ(store.store_sectors, 4u);
  EXPECT_EQ(store.store_bytes, 128u);
  EXPECT_EQ(store.load_sectors, 0u);
}

TEST(Counting, Classes) {
  const Counts c = counts_of(
      "mov.f32 %f1, 0f3F800000;\nadd.f32 %f2, %f1, %f1;\nfma.rn.f32 %f2, %f2, %f2, %f2;\nex2.approx.f32 %f3, %f2;\n"
      "cvt.f64.f32 %fd1, %f2;\nadd.f64 %fd1, %fd1, %fd1;\nmul.wide.u32 %rd6, %r1, %r1;\nshl.b32 %r2, %r1, 2;\n"
      "shfl.sync.bfly.b32 %r3, %r2, 1, 31, -1;\nbar.sync 0;\nsetp.lt.s32 %p1, %r1, 8;\n@%p1 bra $some;\nbra.uni $end;\n"
      "$some:\nadd.f32 %f4, %f1, %f1;\n$end:");
  EXPECT_EQ(c.launches, 1u);
  EXPECT_EQ(c.warps, 1u);
  EXPECT_EQ(c.of(Class::fp32), 3u);
  EXPECT_EQ(c.of(Class::fp64), 1u);
  EXPECT_EQ(c.of(Class::special), 1u);
  EXPECT_EQ(c.of(Class::conversion), 1u);
  EXPECT_EQ(c.of(Class::wide_multiply), 2u);  // one before the body
  EXPECT_EQ(c.of(Class::integer), 4u);        // shl, setp, and two additions before the body
  EXPECT_EQ(c.of(Class::warp_wide), 1u);
  EXPECT_EQ(c.of(Class::barrier), 1u);
  EXPECT_EQ(c.of(Class::branch), 3u);  // and ret, once: the lanes met again
  EXPECT_EQ(c.of(Class::move), 5u);
  // 20 instructions of all lanes, the addition of 8, the jump over it of 24.
  EXPECT_EQ(c.lanes, 20u * 32 + 8 + 24);
}

TEST(Counting, TheTableHasAColumnForEachFigure) {
  counts_of("add.f32 %f2, %f1, %f1;");
  std::ostringstream out;
  write_counts(out);
  const std::string table = out.str(), header = table.substr(0, table.find('\n')),
                    row = table.substr(header.size() + 1);
  EXPECT_EQ(std::count(header.begin(), header.end(), '\t'), std::count(row.begin(), row.end(), '\t'));
  EXPECT_TRUE(header.starts_with("kernel\tlaunches\tblocks\twarps\tinstructions\t")) << header;
  EXPECT_TRUE(row.starts_with("k\t1\t1\t1\t9\t32\t")) << row;
}

TEST(Counting, LaunchesAddUp) {
  const TestKernel kernel("add.f32 %f2, %f1, %f1;");
  DeviceArray<std::uint64_t> in({0});
  clear_counts();
  kernel.run(in.data(), in.data(), 96, 50);
  kernel.run(in.data(), in.data(), 33, 2);
  const Counts c = counted();
  EXPECT_EQ(c.launches, 2u);
  EXPECT_EQ(c.blocks, 52u);
  EXPECT_EQ(c.warps, 154u);
  EXPECT_EQ(c.of(Class::fp32), 154u);
}

// ---- cp.async -----------------------------------------------------------------------------------
/// Copies of one thread; %r10 is shared memory. The result is %r0.
std::uint32_t copied(const std::string& body) {
  return words("mov.u32 %r10, room;\n" + body, 1, 256, kDynamic,
               {0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444})[0];
}
constexpr const char* kCopy = "cp.async.cg.shared.global [%r10], [%rd1], 16;\n";

TEST(AsyncCopies, AreMadeWhenTheyAreWaitedFor) {
  const std::string read = "ld.shared.u32 %r0, [%r10];\n", commit = "cp.async.commit_group;\n";
  EXPECT_EQ(copied(std::string("st.shared.u32 [%r10], 5;\n") + kCopy + read), 0xFFFFFFFFu);
  EXPECT_EQ(copied(kCopy + commit + read), 0xFFFFFFFFu);
  EXPECT_EQ(copied(kCopy + commit + "cp.async.wait_group 0;\n" + read), 0x11111111u);
  EXPECT_EQ(copied(kCopy + commit + "cp.async.wait_group 1;\n" + read), 0xFFFFFFFFu);
  EXPECT_EQ(copied(kCopy + commit + commit + "cp.async.wait_group 1;\n" + read), 0x11111111u);
  EXPECT_EQ(copied(kCopy + std::string("cp.async.wait_group 0;\n") + read), 0xFFFFFFFFu);  // never committed
  EXPECT_EQ(copied(kCopy + std::string("cp.async.wait_all;\n") + read), 0x11111111u);
  // The second of two groups is still on its way.
  const std::string two = kCopy + commit + "cp.async.ca.shared.global [%r10+16], [%rd1+16], 8;\n" + commit;
  EXPECT_EQ(copied(two + "cp.async.wait_group 1;\nld.shared.u32 %r0, [%r10];"), 0x11111111u);
  EXPECT_EQ(copied(two + "cp.async.wait_group 1;\nld.shared.u32 %r0, [%r10+16];"), 0xFFFFFFFFu);
  EXPECT_EQ(copied(two + "cp.async.wait_group 0;\nld.shared.u32 %r0, [%r10+20];"), 0x33333333u);
}

TEST(AsyncCopies, WhatIsNotCopiedIsZero) {
  const std::string part =
      "mov.u32 %r2, 8;\ncp.async.cg.shared.global [%r10], [%rd1+16], 16, %r2;\ncp.async.wait_all;\n";
  EXPECT_EQ(copied(part + "ld.shared.u32 %r0, [%r10+4];"), 0x33333333u);
  EXPECT_EQ(copied(part + "ld.shared.u32 %r0, [%r10+8];"), 0u);
  const std::string nothing =
      "mov.u32 %r2, 0;\nmov.u64 %rd5, 0;\ncp.async.cg.shared.global [%r10], [%rd5], 16, %r2;\ncp.async.wait_all;\n";
  EXPECT_EQ(copied(nothing + "ld.shared.u32 %r0, [%r10];"), 0u);
  EXPECT_THROW(copied("cp.async.cg.shared.global [%r10], [%rd1+32], 16;"), LaunchFailure);
  EXPECT_THROW(copied("cp.async.cg.shared.global [%r10+8], [%rd1], 16;"), LaunchFailure);
  EXPECT_THROW(copied("cp.async.ca.shared.global [%r10], [%rd1+4], 8;"), LaunchFailure);
  EXPECT_THROW(copied("cp.async.cg.shared.global [%r10+256], [%rd1], 16;"), LaunchFailure);
  EXPECT_NE(refusal_of("cp.async.cg.shared.global [%r10], [%rd1], 8;"), "");
}

TEST(AsyncCopies, AreCounted) {
  const Counts c = counts_of(shared_stride(16) + global_stride(16) +
                             "cp.async.cg.shared.global [%r11], [%rd5], 16;\ncp.async.wait_all;");
  EXPECT_EQ(c.of(Class::async_copy), 1u);
  EXPECT_EQ(c.copy_sectors, 16u);
  EXPECT_EQ(c.copy_bytes, 512u);
  EXPECT_EQ(c.copy_wavefronts, 4u);
}

}  // namespace
}  // namespace ptx_on_cpu::testing
