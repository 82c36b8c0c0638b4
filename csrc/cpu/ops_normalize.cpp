// Normalised maps, forward and backward.
#include "call.h"
#include "normalize.h"

namespace dadkit {

void Cpu::normalize_forward(const Tensor& x, const Tensor& reference, const Batch& batch, const GivenTensors& given, const Options& o, const Tensor& y,
                            const Tensor& stats) {
  each_image(x, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, reference, batch);
    NormalizedImage<T>(&image, turn.in(x, batch.n))
        .forward(given_row<T>(given, turn.image, o).edges, turn.to(y, o.n_segments * batch.n),
                 turn.template to<double>(stats, record::width(o)));
  });
}

void Cpu::normalize_backward(const Tensor& grad, const Tensor& x, const Tensor& reference, const Batch& batch, const Tensor& stats, const Options& o,
                             const Tensor& result) {
  each_image(x, batch.images, [&](const auto& turn) {
    using T = TypeOf<decltype(turn)>;
    SegmentedImage<T> image = turn.segmented(o, reference, batch);
    NormalizedImage<T>(&image, turn.in(x, batch.n))
        .backward(turn.in(grad, o.n_segments * batch.n), turn.record_of(stats, record::width(o)), turn.to(result, batch.n));
  });
}

}  // namespace dadkit
