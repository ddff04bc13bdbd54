// Einstein summation by permuting, taking diagonals and multiplying matrices, pair by pair from the left.
#include <array>

#include "ops/fast_path.h"

namespace tg {
namespace {

// Labels: letters are 0..51, the dimensions of an ellipsis 52 and up, aligned at the right.
constexpr int kEllipsis = 52, kLabels = kEllipsis + kMaxDims;
using Labels = Dims;

struct Equation {
  std::vector<Labels> inputs;
  Labels output;
};

int letter(char ch) { return ch >= 'A' && ch <= 'Z' ? ch - 'A' : ch >= 'a' && ch <= 'z' ? 26 + ch - 'a' : -1; }
std::string label_name(int l) { return l >= kEllipsis ? "..." : std::string(1, char(l < 26 ? 'A' + l : 'a' + l - 26)); }

// The labels of one term; `ndim` -1 for the output, whose ellipsis has `dots` dimensions.
Labels parse_term(std::string_view eq, std::string_view term, int dots) {
  Labels out;
  bool seen = false;
  for (size_t i = 0; i < term.size(); ++i) {
    if (term[i] == ' ') continue;
    if (term[i] == '.') {
      TG_CHECK(!seen && term.substr(i, 3) == "...", ValueError,
               "einsum: '.' stands only in one '...' per term; equation '", eq, "'");
      for (int d = 0; d < dots; ++d) out.push_back(kLabels - dots + d);
      seen = true;
      i += 2;
      continue;
    }
    int l = letter(term[i]);
    TG_CHECK(l >= 0, ValueError, "einsum: '", term[i], "' is not a letter; equation '", eq, "'");
    out.push_back(l);
  }
  return out;
}
int count_letters(std::string_view term) {
  int n = 0;
  for (char ch : term) n += letter(ch) >= 0;
  return n;
}

std::vector<std::string_view> split_terms(std::string_view s) {
  std::vector<std::string_view> out;
  for (size_t start = 0, i = 0; i <= s.size(); ++i)
    if (i == s.size() || s[i] == ',') out.push_back(s.substr(start, i - start)), start = i + 1;
  return out;
}

Equation parse_equation(std::string_view eq, TensorList ts) {
  size_t arrow = eq.find("->");
  auto terms = split_terms(eq.substr(0, arrow));
  TG_CHECK(int64_t(terms.size()) == ts.size(), ValueError, "einsum: equation '", eq, "' has ", terms.size(),
           " operands, got ", ts.size());
  Equation e;
  int most = 0;
  for (size_t k = 0; k < terms.size(); ++k) {
    const Tensor& t = ts[int64_t(k)];
    int dots = t.ndim() - count_letters(terms[k]);
    bool open = terms[k].find('.') != terms[k].npos;
    TG_CHECK(open ? dots >= 0 : dots == 0, ShapeError, "einsum: term '", terms[k], "' of equation '", eq, "' has ",
             count_letters(terms[k]), " letters for ", t.ndim(), " dimensions; operands[", k, "]=", describe(t));
    e.inputs.push_back(parse_term(eq, terms[k], dots));
    if (open) most = std::max(most, dots);
  }
  std::array<int, kLabels> uses{};
  for (const Labels& in : e.inputs)
    for (int l : in) ++uses[size_t(l)];
  if (arrow == eq.npos) {  // implicit: the ellipsis, then the letters used once, in alphabetical order
    for (int d = kLabels - most; d < kLabels; ++d) e.output.push_back(d);
    for (int l = 0; l < kEllipsis; ++l)
      if (uses[size_t(l)] == 1) e.output.push_back(l);
    return e;
  }
  e.output = parse_term(eq, eq.substr(arrow + 2), most);
  std::array<int, kLabels> out_uses{};
  for (int l : e.output) {
    TG_CHECK(uses[size_t(l)] > 0, ValueError, "einsum: output letter '", label_name(l),
             "' is in no operand; equation '", eq, "'");
    TG_CHECK(++out_uses[size_t(l)] == 1, ValueError, "einsum: output letter '", label_name(l),
             "' appears twice; equation '", eq, "'");
  }
  return e;
}

// An operand whose axes are a list of distinct labels.
struct Term {
  Tensor t;
  Labels labels;
  int find(int l) const {
    for (int i = 0; i < labels.size(); ++i)
      if (labels[i] == l) return i;
    return -1;
  }
  int64_t size(int l) const {
    int i = find(l);
    return i < 0 ? 1 : t.sizes()[i];
  }
};

// A label that repeats within a term means its diagonal.
Term take_diagonals(std::string_view eq, const Tensor& t, const Labels& labels) {
  Term r{t, {}};
  Labels rest = labels;
  while (!rest.empty()) {
    int l = rest[0], axis = 0;
    Labels after;
    for (int i = 1; i < rest.size(); ++i) {
      if (rest[i] != l) {
        after.push_back(rest[i]);
        continue;
      }
      // axes of r.t: the unread ones first, those done behind them
      int other = after.size() + 1;
      TG_CHECK(r.t.sizes()[axis] == r.t.sizes()[other], ShapeError, "einsum: repeated letter '", label_name(l),
               "' has sizes ", r.t.sizes()[axis], " and ", r.t.sizes()[other], "; equation '", eq, "', operand ",
               describe(t));
      r.t = movedim(diagonal(r.t, 0, axis, other), {-1}, {0});
    }
    r.t = movedim(r.t, {0}, {-1});
    r.labels.push_back(l);
    rest = after;
  }
  return r;
}

Term sum_labels(const Term& a, const Labels& gone) {
  if (gone.empty()) return a;
  Dims axes;
  Term r;
  for (int i = 0; i < a.labels.size(); ++i) {
    bool out = false;
    for (int l : gone) out |= a.labels[i] == l;
    if (out)
      axes.push_back(i);
    else
      r.labels.push_back(a.labels[i]);
  }
  r.t = sum(a.t, axes);
  return r;
}

// `a` with axes in the order of `groups`, each group one axis; labels a does not have count as size 1.
Tensor grouped(const Term& a, std::initializer_list<const Labels*> groups, const std::array<int64_t, kLabels>& sizes) {
  Dims axes, wide, merged;
  bool stretch = false;
  for (const Labels* group : groups) {
    int64_t n = 1;
    for (int l : *group) {
      axes.push_back(a.find(l));
      wide.push_back(sizes[size_t(l)]);
      stretch |= a.size(l) != sizes[size_t(l)];
      n *= sizes[size_t(l)];
    }
    merged.push_back(n);
  }
  Tensor t = permute(a.t, axes);
  return reshape(stretch ? expand(t, wide) : t, merged);
}

// Contracts two terms; labels in neither `later` nor the output are summed.
Term contract(const Term& x, const Term& y, const std::array<bool, kLabels>& kept) {
  Labels batch, inner, left, right, gone_x, gone_y;
  std::array<int64_t, kLabels> sizes{};
  for (int l = 0; l < kLabels; ++l) {
    bool in_x = x.find(l) >= 0, in_y = y.find(l) >= 0, keep = kept[size_t(l)];
    if (!in_x && !in_y) continue;
    sizes[size_t(l)] = x.size(l) == 1 ? y.size(l) : x.size(l);
    // A label summed away that is 1 on one side is summed on the other before the product.
    if (in_x && in_y && !keep && x.size(l) != y.size(l))
      gone_x.push_back(l), gone_y.push_back(l);
    else if (in_x && in_y)
      (keep ? batch : inner).push_back(l);
    else if (in_x)
      (keep ? left : gone_x).push_back(l);
    else
      (keep ? right : gone_y).push_back(l);
  }
  Term a = sum_labels(x, gone_x), b = sum_labels(y, gone_y);
  Term r;
  Dims full;
  for (const Labels* group : {&batch, &left, &right})
    for (int l : *group) r.labels.push_back(l), full.push_back(sizes[size_t(l)]);
  if (inner.empty()) {  // nothing to sum: the broadcast product, without going through gemm
    auto spread = [&](const Term& t) {
      Dims axes, shape;
      for (int l : r.labels) {
        if (int i = t.find(l); i >= 0) axes.push_back(i);
        shape.push_back(t.size(l));
      }
      return reshape(permute(t.t, axes), shape);
    };
    r.t = spread(a) * spread(b);
    return r;
  }
  r.t = reshape(matmul(grouped(a, {&batch, &left, &inner}, sizes), grouped(b, {&batch, &inner, &right}, sizes)), full);
  return r;
}

void check_sizes(std::string_view eq, const std::vector<Term>& terms) {
  std::array<int64_t, kLabels> sizes;
  sizes.fill(1);
  for (size_t k = 0; k < terms.size(); ++k)
    for (int l : terms[k].labels) {
      int64_t n = terms[k].size(l), &have = sizes[size_t(l)];
      TG_CHECK(have == 1 || n == 1 || n == have, ShapeError, "einsum: letter '", label_name(l), "' has size ", n,
               " in operand ", k, " but ", have, " before; equation '", eq, "', operands[", k,
               "]=", describe(terms[k].t));
      if (have == 1) have = n;
    }
}

Tensor einsum_body(std::string_view eq, TensorList ts) {
  TG_CHECK(!ts.empty(), ValueError, "einsum: expected at least one operand; equation '", eq, "'");
  Equation e = parse_equation(eq, ts);
  std::vector<Term> terms;
  for (size_t k = 0; k < e.inputs.size(); ++k) terms.push_back(take_diagonals(eq, ts[int64_t(k)], e.inputs[k]));
  check_sizes(eq, terms);
  std::array<int, kLabels> uses{};  // in terms not yet contracted and in the output
  for (int l : e.output) ++uses[size_t(l)];
  for (const Term& t : terms)
    for (int l : t.labels) ++uses[size_t(l)];
  auto done_with = [&](const Term& t) {
    for (int l : t.labels) --uses[size_t(l)];
  };
  Term acc = terms[0];
  done_with(acc);
  for (size_t k = 1; k < terms.size(); ++k) {
    done_with(terms[k]);
    std::array<bool, kLabels> kept{};
    for (size_t l = 0; l < kLabels; ++l) kept[l] = uses[l] > 0;
    acc = contract(acc, terms[k], kept);
  }
  Labels gone;
  Dims order;
  for (int l : acc.labels) {
    bool wanted = false;
    for (int o : e.output) wanted |= o == l;
    if (!wanted) gone.push_back(l);
  }
  acc = sum_labels(acc, gone);
  for (int l : e.output) order.push_back(acc.find(l));
  return order.size() > 1 ? permute(acc.t, order) : acc.t;
}

TG_OP("einsum(str equation, Tensor[] operands) -> Tensor",
      .doc =
          "Sum of products in Einstein's notation: a letter per dimension, '...' for those not named, letters missing "
          "from the output are summed, a letter that repeats within an operand takes its diagonal.",
      .composite = box<einsum_body>, .flags = kFunctionOnly, .autocast = Autocast::Low,
      .samples =
          "'ij,jk->ik', [T(3,4), T(4,5)]; 'ij,jk', [T(3,4), T(4,5)]; 'ii->i', [T(3,3)]; 'ii', [T(3,3)]; 'ij->ji', "
          "[T(3,4)]; "
          "'bij,bjk->bik', [T(2,3,4), T(2,4,5)]; '...ij,...jk->...ik', [T(2,3,4), T(2,4,5)]; 'i,j->ij', [T(3), T(4)]; "
          "'i,i->', [T(3), T(3)]; 'bn,anm,bm->ba', [T(2,3), T(5,3,4), T(2,4)]; 'bqhd,bkhd->bhqk', [T(2,3,2,4), "
          "T(2,5,2,4)]; "
          "'ij->', [T(3,4)]; '...,...', [T(3,4), T(4)]; 'bhwc,bhkc->bhwk', [T(2,1,3,4), T(2,5,2,4)]; 'iij->j', "
          "[T(3,3,2)]; "
          "'ij,ij->ij', [T(3,4), T(3,4)]; '->', [T()]; 'iijj->ij', [T(2,2,3,3)]; 'ij,j', [T(3,0), T(0)]");

}  // namespace
}  // namespace tg
