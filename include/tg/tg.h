// Everything a program needs: tg::Tensor and its ops, autograd, tg::nn, tg::optim, tg::io.
#pragma once
#include "autograd/autograd.h"
#include "core/version.h"
#include "io/npy.h"
#include "io/plot.h"
#include "io/safetensors.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "optim/clip.h"
#include "optim/lr_scheduler.h"
#include "optim/optimizer.h"
