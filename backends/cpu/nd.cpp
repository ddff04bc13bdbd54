#include "backends/cpu/nd.h"

namespace tg::cpu {

Nd::Nd(plan::Nest loops, const Views& a, const Views& b) : nest(std::move(loops)), nv(nest.n_views), n(nest.numel()) {
  for (int v = 0; v < nv; ++v) {
    const View& w = v < a.size() ? a[v] : b[v - a.size()];
    data[v] = static_cast<char*>(w.data);
    dtype[v] = w.dtype;
    item[v] = itemsize(w.dtype);
    int64_t expect = 1;
    flat[v] = true;
    for (int d = ndim() - 1; d >= 0; --d) {
      flat[v] = flat[v] && nest.stride[v][d] == expect;
      expect *= size(d);
    }
  }
}

void Cursor::seek(int64_t at) {
  linear = at;
  for (int v = 0; v < nd.nv; ++v) p[v] = nd.data[v];
  for (int d = nd.ndim() - 1; d >= 0; --d) {
    idx[d] = d == 0 || nd.size(d) == 0 ? at : at % nd.size(d);
    if (nd.size(d) != 0) at /= nd.size(d);
    for (int v = 0; v < nd.nv; ++v) p[v] += idx[d] * nd.step(v, d);
  }
}

void Cursor::carry(int from) {
  for (int d = from; d > 0 && idx[d] == nd.size(d); --d) {
    idx[d] = 0;
    ++idx[d - 1];
    for (int v = 0; v < nd.nv; ++v) p[v] += nd.step(v, d - 1) - nd.size(d) * nd.step(v, d);
  }
}

}  // namespace tg::cpu
