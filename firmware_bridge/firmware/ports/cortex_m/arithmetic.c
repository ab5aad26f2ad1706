/* The run-time helpers of the Arm EABI that clang calls for 64-bit arithmetic and copies: no compiler library is needed.
 *
 * Names and registers: Run-time ABI for the Arm Architecture, 2023Q3, sections 5.3.1 and 5.3.4.
 */
#include <stddef.h>
#include <stdint.h>

typedef union {
    uint64_t whole;
    struct {
        uint32_t low, high;
    } half;
} split;

uint64_t __aeabi_llsl(uint64_t value, int by)
{
    split v = {value}, r = {value};
    if (by >= 32) {
        r.half.high = v.half.low << (by - 32);
        r.half.low = 0;
    } else if (by > 0) {
        r.half.high = v.half.high << by | v.half.low >> (32 - by);
        r.half.low = v.half.low << by;
    }
    return r.whole;
}

uint64_t __aeabi_llsr(uint64_t value, int by)
{
    split v = {value}, r = {value};
    if (by >= 32) {
        r.half.low = v.half.high >> (by - 32);
        r.half.high = 0;
    } else if (by > 0) {
        r.half.low = v.half.low >> by | v.half.high << (32 - by);
        r.half.high = v.half.high >> by;
    }
    return r.whole;
}

static uint64_t wide_product(uint32_t a, uint32_t b)
{
    uint32_t al = a & 0xFFFF, ah = a >> 16, bl = b & 0xFFFF, bh = b >> 16;
    uint32_t middle = al * bh, other = ah * bl, low = al * bl;
    uint32_t carry = (low >> 16) + (middle & 0xFFFF) + (other & 0xFFFF);
    split r;
    r.half.low = (low & 0xFFFF) | carry << 16;
    r.half.high = ah * bh + (middle >> 16) + (other >> 16) + (carry >> 16);
    return r.whole;
}

uint64_t __aeabi_lmul(uint64_t a, uint64_t b)
{
    split x = {a}, y = {b}, r;
    r.whole = wide_product(x.half.low, y.half.low);
    r.half.high += x.half.low * y.half.high + x.half.high * y.half.low;
    return r.whole;
}

/* Long division, bit by bit; x / 0 is all ones. */
__attribute__((used)) static uint64_t divide(uint64_t dividend, uint64_t divisor, uint64_t *rest)
{
    uint64_t quotient = 0, left = 0;
    for (int bit = 0; bit < 64; bit++) {
        left = left + left + (dividend >> 63);
        dividend += dividend;
        quotient += quotient;
        if (left >= divisor) {
            left -= divisor;
            quotient++;
        }
    }
    *rest = left;
    return quotient;
}

__attribute__((used)) static int64_t divide_signed(int64_t dividend, int64_t divisor, int64_t *rest)
{
    uint64_t left, a = dividend < 0 ? 0 - (uint64_t)dividend : (uint64_t)dividend;
    uint64_t quotient = divide(a, divisor < 0 ? 0 - (uint64_t)divisor : (uint64_t)divisor, &left);
    *rest = (int64_t)(dividend < 0 ? 0 - left : left);
    return (int64_t)((dividend < 0) != (divisor < 0) ? 0 - quotient : quotient);
}

/* Quotient in r0 and r1, remainder in r2 and r3: no C function returns that. */
#define RETURNING_BOTH(name, with)                                                                                     \
    __attribute__((naked)) void name(void)                                                                             \
    {                                                                                                                  \
        __asm__("push {r6, lr}\n sub sp, #16\n add r6, sp, #8\n str r6, [sp]\n bl " #with "\n"                         \
                "ldr r2, [sp, #8]\n ldr r3, [sp, #12]\n add sp, #16\n pop {r6, pc}");                                  \
    }
RETURNING_BOTH(__aeabi_uldivmod, divide)
RETURNING_BOTH(__aeabi_ldivmod, divide_signed)

uint64_t __aeabi_uidivmod(uint32_t dividend, uint32_t divisor)
{
    split r = {0};
    uint32_t left = 0;
    for (int bit = 0; bit < 32; bit++) {
        uint32_t out = left >> 31;
        left = left << 1 | dividend >> 31;
        dividend <<= 1;
        r.half.low <<= 1;
        if (out != 0 || left >= divisor) {
            left -= divisor;
            r.half.low++;
        }
    }
    r.half.high = left;
    return r.whole;
}

uint32_t __aeabi_uidiv(uint32_t dividend, uint32_t divisor)
{
    return (uint32_t)__aeabi_uidivmod(dividend, divisor);
}

int32_t __aeabi_idiv(int32_t dividend, int32_t divisor)
{
    uint32_t a = dividend < 0 ? 0 - (uint32_t)dividend : (uint32_t)dividend;
    uint32_t quotient = __aeabi_uidiv(a, divisor < 0 ? 0 - (uint32_t)divisor : (uint32_t)divisor);
    return (int32_t)((dividend < 0) != (divisor < 0) ? 0 - quotient : quotient);
}

void __aeabi_memcpy(void *to, const void *from, size_t size)
{
    uint8_t *out = to;
    for (const uint8_t *in = from; size > 0; size--) *out++ = *in++;
}

void __aeabi_memset(void *at, size_t size, int value)
{
    for (uint8_t *out = at; size > 0; size--) *out++ = (uint8_t)value;
}

void __aeabi_memclr(void *at, size_t size)
{
    __aeabi_memset(at, size, 0);
}

#define ALSO_AS(name) __attribute__((alias(#name)))
void __aeabi_memcpy4(void *, const void *, size_t) ALSO_AS(__aeabi_memcpy);
void __aeabi_memcpy8(void *, const void *, size_t) ALSO_AS(__aeabi_memcpy);
void __aeabi_memclr4(void *, size_t) ALSO_AS(__aeabi_memclr);
void __aeabi_memclr8(void *, size_t) ALSO_AS(__aeabi_memclr);
