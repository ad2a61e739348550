/* ring's small P-256 (release/compile) has one function for a multiple of the base point, where the one with a table has a
   second for numbers that are no secret. */
  .text
  .globl ring_core_0_17_14__p256_point_mul_base_vartime
  .hidden ring_core_0_17_14__p256_point_mul_base_vartime
  .type ring_core_0_17_14__p256_point_mul_base_vartime, %function
ring_core_0_17_14__p256_point_mul_base_vartime:
#ifdef __x86_64__
  jmp ring_core_0_17_14__p256_point_mul_base
#else
  b ring_core_0_17_14__p256_point_mul_base
#endif
