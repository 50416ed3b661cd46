#pragma once
// What a device does at best, measured where and when the rest is: the figures that others are a share of.

#include "engine/model/make_model.h"

namespace moleblend {

struct Ceilings {
  double flop_per_s = 0;   // large matrix products in the precision; 0 where the device has none in it
  double bytes_per_s = 0;  // copying memory much larger than caches: bytes read and bytes written both count
};

/// Takes about a second. Throws as make_model().
Ceilings measure_ceilings(const DeviceChoice& choice);
/// Its flop_per_s alone, a little less exactly, in a fifth of the time on a CPU.
double measure_product_ceiling(const DeviceChoice& choice);

}  // namespace moleblend
