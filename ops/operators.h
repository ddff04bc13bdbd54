// Operators of Tensor: any mix of tensors and numbers with at least one tensor.
#pragma once
#include "core/tensor.h"

namespace tg {

TG_API Tensor operator+(const Operand& a, const Operand& b);
TG_API Tensor operator-(const Operand& a, const Operand& b);
TG_API Tensor operator*(const Operand& a, const Operand& b);
TG_API Tensor operator/(const Operand& a, const Operand& b);
TG_API Tensor operator-(const Operand& a);
// Comparisons give a bool tensor; & | ^ ~ are bitwise, and logical for bool.
TG_API Tensor operator==(const Operand& a, const Operand& b);
TG_API Tensor operator!=(const Operand& a, const Operand& b);
TG_API Tensor operator<(const Operand& a, const Operand& b);
TG_API Tensor operator<=(const Operand& a, const Operand& b);
TG_API Tensor operator>(const Operand& a, const Operand& b);
TG_API Tensor operator>=(const Operand& a, const Operand& b);
TG_API Tensor operator&(const Operand& a, const Operand& b);
TG_API Tensor operator|(const Operand& a, const Operand& b);
TG_API Tensor operator^(const Operand& a, const Operand& b);
TG_API Tensor operator~(const Tensor& a);
TG_API const Tensor& operator+=(const Tensor& a, const Operand& b);
TG_API const Tensor& operator-=(const Tensor& a, const Operand& b);
TG_API const Tensor& operator*=(const Tensor& a, const Operand& b);
TG_API const Tensor& operator/=(const Tensor& a, const Operand& b);

}  // namespace tg
