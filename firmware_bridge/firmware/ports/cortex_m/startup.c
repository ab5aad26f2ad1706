/* From reset to main on a Cortex-M without a C library, and back to the debugger with an exit code. */
#include <stdint.h>

#include "semihosting.h"

#define EXIT_EXTENDED 0x20u /* Arm semihosting for AArch32 and AArch64, release 3.0 */
#define WRITE0 0x04u
#define APPLICATION_EXIT 0x20026u
#define CRASHED 3u

extern uint32_t stack_top, data_start, data_end, data_stored, bss_start, bss_end;

int main(void);

static void call_debugger(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void leave(uint32_t code)
{
    uint32_t block[2] = {APPLICATION_EXIT, code};
    call_debugger(EXIT_EXTENDED, block);
    for (;;) {}
}

void print(const char *text)
{
    call_debugger(WRITE0, text);
}

static void on_fault(void) /* an unaligned access on a Cortex-M0 ends here */
{
    print("the processor faulted\n");
    leave(CRASHED);
}

static void on_reset(void)
{
    const volatile uint32_t *from = &data_stored;
    for (volatile uint32_t *to = &data_start; to < &data_end;) *to++ = *from++;
    for (volatile uint32_t *to = &bss_start; to < &bss_end;) *to++ = 0;
    leave((uint32_t)main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, (const void *)on_reset, (const void *)on_fault, (const void *)on_fault, (const void *)on_fault,
    (const void *)on_fault, (const void *)on_fault,
};
