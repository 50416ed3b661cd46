// cuDNN's attention as `moleblend bench` asks for it, without a GPU: whether cuDNN has plans for an H200, and what it refuses. That results
// are right, bench itself says where there is a GPU.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "engine/bench/cudnn_attention.h"
#include "engine/model/config.h"

namespace moleblend {
namespace {

/// An H200 as cuDNN describes it. Values are those of the CUDA programming guide for compute capability 9.0, and the card's.
const GpuDescription kH200{
    90,
    R"({"deviceName":"NVIDIA H200","deviceVer":900,"driverVer":13000,"multiProcessorCount":132,"totalGlobalMem":150754820096,
"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"warpSize":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,
"maxCtasPerSM":32,"regsPerBlock":65536,"maxRegistersPerSM":65536,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,
"reservedSharedMemoryPerBlock":1024,"l2CacheSize":62914560,"smClockRateKHz":1980000,"memClockRateKHz":3201000,"pciDeviceId":0,
"cudaDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1})"};

PaddedAttention shape(std::int64_t molecules, std::int64_t heads, std::int64_t tokens, std::int64_t head_width) {
  PaddedAttention a{};
  a.molecules = molecules;
  a.heads = heads;
  a.tokens = tokens;
  a.head_width = head_width;
  a.scale = 0.2f;
  return a;
}

class Cudnn : public ::testing::Test {
 protected:
  void SetUp() override {
    // cuDNN looks for functions of the driver and calls none of them here: where there is no driver, CUDA's stub of one does.
    if (!dlopen("libcuda.so.1", RTLD_NOW) && !dlopen(MOLEBLEND_CUDA_DRIVER_STUB, RTLD_NOW))
      GTEST_SKIP() << "neither a driver nor CUDA's stub of one: " << dlerror();
    try {
      cudnn_plans(kH200, shape(1, 1, 64, 64));  // the plainest there is
    } catch (const GpuError& error) {
      if (std::string(error.what()).find("can't be opened") != std::string::npos) GTEST_SKIP() << error.what();
      FAIL() << error.what();
    }
  }
};

TEST_F(Cudnn, HasPlansForTheModels) {
  for (const char* name : {"tiny", "small", "base"}) {
    const ModelConfig config = ModelConfig::named(name);
    for (const std::int64_t tokens : {8, 24, 40, 72}) {
      SCOPED_TRACE(::testing::Message() << name << ", " << tokens << " tokens");
      EXPECT_TRUE(
          cudnn_plans(kH200, shape(1024, config.heads, tokens, config.width / config.heads)).starts_with("cuDNN 9."));
    }
  }
}

TEST_F(Cudnn, RefusesInOneLine) {
  try {
    cudnn_plans(kH200, shape(4, 8, 24, 20));
    FAIL() << "a head width of 20 is no multiple of 8";
  } catch (const GpuError& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with("cuDNN refuses: ")) << message;
    EXPECT_NE(message.find("multiple of 8"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST_F(Cudnn, RefusesAGpuThatItCantRead) {
  EXPECT_THROW(cudnn_plans({90, "{}"}, shape(4, 8, 24, 24)), GpuError);
}

}  // namespace
}  // namespace moleblend
