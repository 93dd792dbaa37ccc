// The gradients of LibTorch's own graph, started from any gradient: its binding for Rust starts from ones only.

#include <cstddef>
#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

#include <torch/csrc/autograd/autograd.h>

// Writes a new tensor for each of `count` leaves to `found`, which shares no memory with `gradient`. Returns whether it could; otherwise the
// reason is in `message`, of at most `length` bytes.
extern "C" bool ibhost_gradients(const at::Tensor *value, const at::Tensor *gradient, const at::Tensor *const *leaves, std::size_t count,
                                 at::Tensor **found, char *message, std::size_t length) noexcept {
    try {
        std::vector<at::Tensor> inputs;
        for (std::size_t i = 0; i < count; i++) {
            inputs.push_back(*leaves[i]);
        }
        auto gradients = torch::autograd::grad({*value}, inputs, {*gradient});
        for (auto &tensor : gradients) {
            if (tensor.is_alias_of(*gradient)) {
                tensor = tensor.clone();
            }
        }
        for (std::size_t i = 0; i < count; i++) {
            found[i] = new at::Tensor(std::move(gradients[i]));
        }
        return true;
    } catch (const std::exception &error) {
        std::snprintf(message, length, "%s", error.what());
        return false;
    }
}
