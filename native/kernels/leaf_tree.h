// The tree over the leaves of a sum that ranks can share: ((0+1)+(2+3))+((4+5)+(6+7)), every node, leaves included,
// rounded to bf16 once. Whoever holds neighbouring leaves, a power of two of them that begins at a multiple of it, has
// a node of the tree; so the root has the same bits however many share the work.
//
// Here: the tree over values a thread has together, and over the partial sums of a product that is split over k. The
// tile of a product (tile_leaves.h) and the sum over experts (moe_combine.h) meet their leaves one after the other.
#pragma once

#include "device.h"

// Of two nodes, which are bf16.
OCTET_INLINE float node_of(float left, float right) { return upper_bf16(bias_bf16(left + right)); }

// Two neighbouring values of a node that waits for the right one beside it: two bf16, the upper halves of what rounding
// left.
OCTET_INLINE uint32_t waiting_node(float even, float odd) { return bf16_upper_pair(even, odd); }
// The node it makes with the right one. NOTE: nodes are kept as rounding leaves them, with a low half that is to be
// cleared (upper_bf16) where they are taken: one instruction less for each that waits.
OCTET_INLINE void join_node(uint32_t left, float& even, float& odd) {
  even = bias_bf16(bits_float(left << 16) + upper_bf16(even));
  odd = bias_bf16(bits_float(left & 0xFFFF0000u) + upper_bf16(odd));
}
// The root: cleared, and +0 where it is zero.
OCTET_INLINE float root_of(float node) { return upper_bf16(node) + 0.0f; }

// The root over so many nodes, known when compiled, 2, 4 or 8, which load(i, whole, x) gives before they are rounded;
// whole is Constant<1> or Constant<0>, the same for all of them, so that all loads are on their way together.
template <int count, int run, class Load>
OCTET_INLINE void tree_of(bool whole, const Load& load, float (&root)[run]) {
  float x[count][run];
  if (whole) {
#pragma unroll
    for (int i = 0; i < count; i++) load(i, Constant<1>{}, x[i]);
  } else {
#pragma unroll
    for (int i = 0; i < count; i++) load(i, Constant<0>{}, x[i]);
  }
#pragma unroll
  for (int i = 0; i < count; i++) {
#pragma unroll
    for (int e = 0; e < run; e++) x[i][e] = round_bf16(x[i][e]);
  }
#pragma unroll
  for (int step = 1; step < count; step *= 2) {
#pragma unroll
    for (int i = 0; i < count; i += 2 * step) {
#pragma unroll
      for (int e = 0; e < run; e++) x[i][e] = node_of(x[i][e], x[i + step][e]);
    }
  }
#pragma unroll
  for (int e = 0; e < run; e++) root[e] = root_of(x[0][e]);
}

// The same for 2, 4 or 8 nodes, the same number in every lane.
template <int run, class Load>
OCTET_INLINE void tree_of(int count, bool whole, const Load& load, float (&root)[run]) {
  if (count == 2) {
    tree_of<2>(whole, load, root);
  } else if (count == 4) {
    tree_of<4>(whole, load, root);
  } else {
    tree_of<8>(whole, load, root);
  }
}

// The root over 2, 4 or 8 leaves, each of so many partial sums, which load(segment, whole, x) gives. finish(leaf, x) is
// done to a leaf before it is rounded.
template <int run, class Load, class Finish>
OCTET_INLINE void tree_of_segments(int leaves, int length, bool whole, const Load& load, const Finish& finish,
                                   float (&root)[run]) {
  uint32_t waiting[3][run / 2];  // nodes of 1, 2 and 4 leaves
  for (int leaf = 0; leaf < leaves; leaf++) {
#pragma unroll
    for (int e = 0; e < run; e++) root[e] = 0.0f;
    for (int segment = leaf * length; segment < (leaf + 1) * length; segment++) {
      float x[run];
      whole ? load(segment, Constant<1>{}, x) : load(segment, Constant<0>{}, x);
#pragma unroll
      for (int e = 0; e < run; e++) root[e] += x[e];
    }
    finish(leaf, root);
#pragma unroll
    for (int e = 0; e < run; e++) root[e] = round_bf16(root[e]);
    bool right = true;  // the node is a right one so far
#pragma unroll
    for (int level = 0; level < 3; level++) {
      if (!right) continue;
      right = leaf >> level & 1;
#pragma unroll
      for (int e = 0; e < run; e += 2) {
        if (right) {
          join_node(waiting[level][e / 2], root[e], root[e + 1]);
        } else {
          waiting[level][e / 2] = waiting_node(root[e], root[e + 1]);
        }
      }
    }
  }
#pragma unroll
  for (int e = 0; e < run; e++) root[e] = root_of(root[e]);
}
