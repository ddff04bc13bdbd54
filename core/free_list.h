// Blocks of one size that a thread keeps for reuse, for objects that are made and dropped with every op.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

namespace tg {

// A base that gives `final` class T an operator new from the thread's list. Bounded, so that freeing a large graph
// gives its memory back; a block may go to the list of another thread than it came from. Address sanitizer sees every
// block, as nothing is reused under it.
template <class T, int kMax = 256>
class Recycled {
 public:
  static void* operator new(size_t n) {
    List& l = list();
    if (Block* b = l.head) {
      l.head = b->next;
      --l.n;
      return b;
    }
    return ::operator new(n);
  }
  static void operator delete(void* p, size_t) {
    List& l = list();
    if (l.n >= kLimit || !l.open()) return ::operator delete(p);
    l.head = new (p) Block{l.head};
    ++l.n;
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr int kLimit = 0;
#else
  static constexpr int kLimit = kMax;
#endif
  struct Block {
    Block* next;
  };
  enum class State : uint8_t { Fresh, Open, Closed };
  // Constant-initialised and without a destructor: no guard to look at. What has one is touched once per thread.
  struct List {
    Block* head = nullptr;
    int n = 0;
    State state = State::Fresh;
    bool open() {
      if (state == State::Fresh) {
        thread_local Closer closer;
        closer.list = this;
        state = State::Open;
      }
      return state == State::Open;
    }
  };
  // At the end of the thread; objects that die later go back to the system.
  struct Closer {
    List* list = nullptr;
    ~Closer() {
      list->state = State::Closed;
      list->n = 0;
      while (Block* b = list->head) {
        list->head = b->next;
        ::operator delete(b);
      }
    }
  };
  static List& list() {
    static thread_local constinit List l;
    return l;
  }
};

}  // namespace tg
