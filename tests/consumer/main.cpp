#include <tg/tg.h>

#include <cstdio>

int main() {
  tg::Tensor x = tg::full({3, 4}, 3.0).set_requires_grad(true);
  tg::Tensor y = x * x + 2 * x;
  y.mean().backward();
  std::printf("sum of dy/dx = %g\n", x.grad().sum().item());

  tg::nn::Sequential model(tg::nn::Linear(4, 8), tg::nn::ReLU(), tg::nn::Linear(8, 1));
  tg::optim::Adam optimizer(model->parameters(), {.lr = 1e-2});
  for (int step = 0; step < 100; ++step) {
    tg::Tensor loss = tg::mse_loss(model(x.detach()), tg::full({3, 1}, 5.0));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (step == 99) std::printf("fitted: %s\n", loss.item() < 0.1 ? "yes" : "no");
  }
}
