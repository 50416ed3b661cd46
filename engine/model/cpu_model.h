#pragma once
// The network on the CPU, in float or (for checks) double.

#include "engine/model/network.h"

namespace moleblend {

template <class T>
using CpuModel = Network<Cpu, T>;
extern template class Network<Cpu, float>;
extern template class Network<Cpu, double>;

}  // namespace moleblend
