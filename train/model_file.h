// Modules in safetensors files: the state of one, weights that it ties stored once and found again under all their
// names.
#pragma once
#include "io/safetensors.h"
#include "nn/module.h"

namespace tg::train {

// state_dict() without the names after the first of tensors that share their memory.
TG_API nn::NamedTensors untied_state(const nn::Module& model);
// The reverse: names that the module ties to one that is there, added.
TG_API nn::NamedTensors tied_state(const nn::Module& model, nn::NamedTensors state);

// Whole or not at all, with a checksum per tensor. IoError.
TG_API void save(const nn::Module& model, const std::string& path,
                 const std::map<std::string, std::string>& metadata = {});
// Strict: ValueError names what is missing, unexpected or of another shape. Returns the metadata. IoError, FormatError.
TG_API std::map<std::string, std::string> load(nn::Module& model, const std::string& path);

}  // namespace tg::train
