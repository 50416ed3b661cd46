#include "engine/model/cpu_model.h"

#include "engine/model/network_impl.h"

namespace moleblend {

template class Network<Cpu, float>;
template class Network<Cpu, double>;

std::unique_ptr<Model> make_cpu_model(const ModelConfig& config, Cpu::Place place, bool double_precision, bool learns) {
  if (double_precision) return std::make_unique<CpuModel<double>>(config, place, learns);
  return std::make_unique<CpuModel<float>>(config, place, learns);
}

}  // namespace moleblend
