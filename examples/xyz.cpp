// The smallest computation graph: c = sum(x * y + z), and the gradients of c.
#include <tg/tg.h>

#include <iostream>

int main() {
  const int64_t N = 3, D = 4;
  tg::manual_seed(0);
  tg::Tensor x = tg::rand({N, D}, {}, {}, true);
  tg::Tensor y = tg::rand({N, D}, {}, {}, true);
  tg::Tensor z = tg::rand({N, D}, {}, {}, true);

  tg::Tensor a = x * y;
  tg::Tensor b = a + z;
  tg::Tensor c = tg::sum(b);
  c.backward();

  std::cout << "c = " << c << "\ngrad_x = " << x.grad() << "\ngrad_y = " << y.grad() << "\ngrad_z = " << z.grad()
            << "\n";
  bool right = tg::equal(x.grad(), y) && tg::equal(y.grad(), x) && tg::equal(z.grad(), tg::ones({N, D}));
  std::cout << (right ? "grad_x = y, grad_y = x, grad_z = 1: right\n" : "the gradients are wrong\n");
  return right ? 0 : 1;
}
