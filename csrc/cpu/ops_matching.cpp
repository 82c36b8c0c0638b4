// The gradient matching loss, forward and backward.
#include "call.h"
#include "matching.h"

namespace dadkit {
namespace {

template <typename T>
MatchingImage<T> matching(const Turn<T>& turn, const LossMaps& maps, const Batch& batch, int64_t scales) {
  return {turn.sweeps, turn.in(maps.pred, batch.n), turn.in(maps.target, batch.n), batch.mask_of(turn.image), batch.height, batch.width, scales,
          turn.team};
}

}  // namespace

void Cpu::matching_forward(const LossMaps& maps, const Batch& batch, int64_t scales, bool normalize, const Outputs& y) {
  each_image(maps.pred, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    MatchingImage<T> image = matching(turn, maps, batch, scales);
    double* r = turn.template to<double>(y.stats, matching_record::width(scales));
    image.measure(normalize, r);
    for (int64_t k = 0; k < scales; ++k) turn.to(y.number, scales)[k] = static_cast<T>(matching_record::pixels(r, k));
    image.forward(r, turn.to(y.total, scales), y.want_map ? turn.to(y.map, batch.n) : nullptr,
                  y.want_map ? turn.template to<uint8_t>(y.counted, batch.n) : nullptr);
  });
}

void Cpu::matching_backward(const LossMaps& maps, const Batch& batch, const Tensor& grad, bool per_pixel, const Tensor& stats, int64_t scales,
                            bool normalize, const Tensor& result) {
  each_image(maps.pred, batch.images, [&](const auto& turn) {
    matching(turn, maps, batch, scales)
        .backward(normalize, turn.record_of(stats, matching_record::width(scales)), per_pixel ? nullptr : turn.in(grad, scales),
                  per_pixel ? turn.in(grad, batch.n) : nullptr, turn.to(result, batch.n), nullptr);
  });
}

void Cpu::matching_mean(const LossMaps& maps, const Batch& batch, int64_t scales, bool normalize, const MeanOutputs& y) {
  mean_of_images(maps.pred, batch.images, y.loss, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    MatchingImage<T> image = matching(turn, maps, batch, scales);
    std::vector<double> r(static_cast<size_t>(matching_record::width(scales)));
    image.measure(normalize, r.data());
    std::vector<T> total(static_cast<size_t>(scales)), pixels(total), share(total);
    for (size_t k = 0; k < share.size(); ++k) {
      pixels[k] = std::max(T(1), static_cast<T>(matching_record::pixels(r.data(), static_cast<int64_t>(k))));
      share[k] = T(1) / static_cast<T>(batch.images) / pixels[k];
    }
    if (y.want_gradient) {
      image.backward(normalize, r.data(), share.data(), nullptr, turn.to(y.gradient, batch.n), total.data());
    } else {
      image.forward(r.data(), total.data(), nullptr, nullptr);
    }
    T loss = 0;
    for (size_t k = 0; k < total.size(); ++k) loss += total[k] / pixels[k];
    return loss;
  });
}

}  // namespace dadkit
