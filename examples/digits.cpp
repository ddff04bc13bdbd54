// Trains a small network on 1,797 handwritten digits: digits [data folder] [output folder] [epochs]
#include <tg/tg.h>

#include <cstdio>

using namespace tg;

nn::Sequential make_model() {
  return nn::Sequential(nn::Conv2d(1, 16, 3, {.padding = 1}), nn::ReLU(), nn::MaxPool2d(2),  // (N, 16, 4, 4)
                        nn::Flatten(), nn::Linear(16 * 4 * 4, 64), nn::ReLU(), nn::Linear(64, 10));
}

int main(int argc, char** argv) {
  std::string data = argc > 1 ? argv[1] : "python/tinygrad_cpp/data", out = argc > 2 ? argv[2] : ".";
  int epochs = argc > 3 ? std::atoi(argv[3]) : 20;
  manual_seed(0);
  Tensor x = cast(io::load_npy(data + "/digits_images.npy"), DType::F32).unsqueeze(1) / 16;  // (1797, 1, 8, 8)
  Tensor y = cast(io::load_npy(data + "/digits_labels.npy"), DType::I64);
  Tensor order = randperm(x.size(0));
  int64_t n = x.size(0) * 4 / 5;
  Tensor train = order.narrow(0, 0, n), test = order.narrow(0, n, x.size(0) - n);
  Tensor x_test = x.index_select(0, test), y_test = y.index_select(0, test);

  nn::Sequential model = make_model();
  optim::Adam optimizer(model->parameters(), {.lr = 3e-3});
  std::vector<double> losses, accuracies;
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    double total = 0;
    for (const Tensor& batch : split(train.index_select(0, randperm(n)), 64)) {
      Tensor loss = cross_entropy(model(x.index_select(0, batch)), y.index_select(0, batch));
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
      total += loss.item() * double(batch.size(0));
    }
    NoGrad guard;
    losses.push_back(total / double(n));
    accuracies.push_back(cast(eq(argmax(model(x_test), 1), y_test), DType::F32).mean().item());
    std::string bar(size_t(30 * epoch / epochs), '#');
    std::printf("\r[%-30s] epoch %d/%d  loss %.4f  accuracy %.2f %%", bar.c_str(), epoch, epochs, losses.back(),
                100 * accuracies.back());
    std::fflush(stdout);
  }
  io::save_plot({{"loss", {{"training", losses}}}, {"accuracy", {{"held out", accuracies}}}}, out + "/digits.png");
  io::save({model->state_dict(), {}}, out + "/digits.safetensors");

  nn::Sequential loaded = make_model();
  loaded->load_state_dict(io::load(out + "/digits.safetensors").tensors);
  bool same = equal(model(x_test), loaded(x_test));
  std::printf("\nsaved digits.png and digits.safetensors; the loaded model predicts %s\n",
              same ? "the same" : "otherwise");
  return same && accuracies.back() >= 0.97 ? 0 : 1;
}
