// A small GPT over bytes, trained on a text file: char_gpt [text file] [steps]. Without a file it reads core/ of the
// project, from whose folder it is then run.
#include <tg/tg.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

using namespace tg;

constexpr int64_t kLayers = 2, kHeads = 4, kWidth = 64, kContext = 64, kBatch = 16, kSample = 200;

// Attention and a two-layer network, each added to what comes in: (B, T, C) to (B, T, C).
struct Block : nn::Module {
  nn::LayerNorm norm1 = reg("norm1", nn::LayerNorm(kWidth)), norm2 = reg("norm2", nn::LayerNorm(kWidth));
  nn::Linear qkv = reg("qkv", nn::Linear(kWidth, 3 * kWidth)), proj = reg("proj", nn::Linear(kWidth, kWidth));
  nn::Sequential mlp =
      reg("mlp", nn::Sequential(nn::Linear(kWidth, 4 * kWidth), nn::GELU(), nn::Linear(4 * kWidth, kWidth)));

  Tensor forward(const Tensor& x) override {
    int64_t B = x.size(0), T = x.size(1), C = x.size(2);
    Tensor parts = qkv(norm1(x)).view({B, T, 3, kHeads, C / kHeads}).permute({2, 0, 3, 1, 4});
    Tensor a = scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0, true);
    Tensor y = x + proj(a.transpose(1, 2).reshape({B, T, C}));
    return y + mlp(norm2(y));
  }
};

struct GPT : nn::Module {
  nn::Embedding token, position;
  nn::Sequential blocks = reg("blocks", nn::Sequential());
  nn::LayerNorm norm = reg("norm", nn::LayerNorm(kWidth));

  explicit GPT(int64_t vocab)
      : token(reg("token", nn::Embedding(vocab, kWidth))), position(reg("position", nn::Embedding(kContext, kWidth))) {
    for (int64_t i = 0; i < kLayers; ++i) blocks->append(nn::Handle<Block>());
    for (const Tensor& t : {token->weight, position->weight}) nn::init::normal_(t, 0, 0.02);
  }
  // (B, T) token numbers to (B, T, vocab) logits; the last layer shares the embedding's weight.
  Tensor forward(const Tensor& tokens) override {
    Tensor x = token(tokens) + position(arange(tokens.size(1)));
    return linear(norm(blocks(x)), token->weight);
  }
};

std::string read_text(const std::vector<std::filesystem::path>& files) {
  std::string text;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    text.append(std::istreambuf_iterator<char>(in), {});
  }
  return text;
}

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  if (argc > 1)
    files.push_back(argv[1]);
  else if (std::filesystem::is_directory("core"))
    for (const auto& entry : std::filesystem::directory_iterator("core")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  int steps = argc > 2 ? std::atoi(argv[2]) : 300;
  std::string text = read_text(files), chars = text;
  if (int64_t(text.size()) <= kContext || steps < 2) {
    std::cerr << "usage: char_gpt [text of more than " << kContext << " bytes] [steps, at least 2]\n";
    return 2;
  }
  std::sort(chars.begin(), chars.end());
  chars.erase(std::unique(chars.begin(), chars.end()), chars.end());
  Tensor data = empty({int64_t(text.size())}, DType::I64);
  for (size_t i = 0; i < text.size(); ++i) data.data<int64_t>()[i] = int64_t(chars.find(text[i]));

  manual_seed(0);
  GPT model(int64_t(chars.size()));
  optim::AdamW optimizer(model.parameters(), {.lr = 3e-3});
  optim::OneCycleLR scheduler(optimizer, 3e-3, {.total_steps = steps, .cycle_momentum = false});
  auto start = std::chrono::steady_clock::now();
  for (int step = 1; step <= steps; ++step) {
    Tensor at = randint(data.size(0) - kContext, {kBatch, 1}) + arange(kContext);
    Tensor logits = model(take(data, at));
    Tensor loss = cross_entropy(logits.flatten(0, 1), take(data, at + 1).flatten());
    optimizer.zero_grad();
    loss.backward();
    optim::clip_grad_norm_(model.parameters(), 1.0);
    optimizer.step();
    if (step < steps) scheduler.step();
    if (step % 20 == 0 || step == 1 || step == steps) {
      double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      std::printf("step %5d  loss %.4f  %.0f tokens/s\n", step, loss.item(),
                  double(step * kBatch * kContext) / seconds);
      std::fflush(stdout);
    }
  }

  NoGrad guard;
  model.eval();
  Tensor tokens = data.narrow(0, 0, 1).unsqueeze(0);
  for (int64_t i = 0; i < kSample; ++i) {
    int64_t n = std::min(tokens.size(1), kContext);
    Tensor logits = model(tokens.narrow(1, tokens.size(1) - n, n)).select(1, -1);
    tokens = cat({tokens, multinomial(softmax(logits, -1), 1)}, 1);
    std::cout << chars[size_t(tokens[{0, -1}].item<int64_t>())];
  }
  std::cout << "\n";
}
