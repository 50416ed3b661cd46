// The 3D head's map 1024 → hidden → outputs, multiplied out and back.

#include "kernels/common/vector_math.h"
#include "kernels/pair_head/pair_head.h"

namespace moleblend {

template <class T>
void multiply_out(Cpu& cpu, const FactorisedMap<T>& map, T* weight, Wide<T>* bias) {
  cpu.parallel([&](int thread) {
    const Range columns = even_part(map.inputs, cpu.threads(), thread, 16);
    for (std::int64_t o = 0; o < map.outputs; ++o) {
      T* to = weight + o * map.inputs;
      for (std::int64_t k = columns.begin; k < columns.end; ++k) to[k] = T(0);
      for (std::int64_t h = 0; h < map.hidden; ++h) {
        const T factor = map.outer[o * map.hidden + h];
        const T* from = map.inner + h * map.inputs;
        for (std::int64_t k = columns.begin; k < columns.end; ++k) to[k] += factor * from[k];
      }
    }
  });
  for (std::int64_t o = 0; o < map.outputs; ++o) {
    bias[o] = map.outer_bias[o];
    for (std::int64_t h = 0; h < map.hidden; ++h) bias[o] += map.outer[o * map.hidden + h] * map.inner_bias[h];
  }
}

template <class T>
void multiply_out_backward(Cpu& cpu, const FactorisedMap<T>& map, const Wide<T>* dweight, const Wide<T>* dbias,
                           const FactorisedGradients<T>& gradients) {
  cpu.parallel([&](int thread) {
    const Range rows = even_part(map.hidden, cpu.threads(), thread);
    for (std::int64_t h = rows.begin; h < rows.end; ++h) {
      const T* inner = map.inner + h * map.inputs;
      T* dinner = gradients.inner + h * map.inputs;
      for (std::int64_t o = 0; o < map.outputs; ++o) {
        const T* from = dweight + o * map.inputs;
        const T factor = map.outer[o * map.hidden + h];
        for (std::int64_t k = 0; k < map.inputs; ++k) dinner[k] += factor * from[k];
        gradients.outer[o * map.hidden + h] +=
            dbias[o] * map.inner_bias[h] +
            vector_sum<T>(map.inputs, [&](std::int64_t k) { return from[k] * inner[k]; });
        gradients.inner_bias[h] += factor * dbias[o];
      }
    }
  });
  for (std::int64_t o = 0; o < map.outputs; ++o) gradients.outer_bias[o] += dbias[o];
}

template void multiply_out(Cpu&, const FactorisedMap<float>&, float*, float*);
template void multiply_out(Cpu&, const FactorisedMap<double>&, double*, double*);
template void multiply_out_backward(Cpu&, const FactorisedMap<float>&, const float*, const float*,
                                    const FactorisedGradients<float>&);
template void multiply_out_backward(Cpu&, const FactorisedMap<double>&, const double*, const double*,
                                    const FactorisedGradients<double>&);

}  // namespace moleblend
