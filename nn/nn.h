// Everything of tg::nn.
#pragma once
#include "nn/attention.h"
#include "nn/checkpoint.h"
#include "nn/containers.h"
#include "nn/fn_module.h"
#include "nn/init.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/rnn.h"
