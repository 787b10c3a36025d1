/* Hides what goes beyond AVX2 (AVX-512, VNNI, AMX) from a program and all of its libraries, so that engines that cannot be
 * told to do without can be compared as on a processor that lacks it: `make bench-int8-avx2`.
 *
 * The processor is asked to fault at CPUID (arch_prctl ARCH_CPUID; Intel since Ivy Bridge, Linux 4.12), and what it says is
 * passed on without these features. Threads inherit that; a program that is started has it preloaded again.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

static long allow_cpuid(unsigned long yes) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, yes); }

/* Bits by Intel's Software Developer's Manual, volume 2, CPUID. */
static void hide(unsigned leaf, unsigned part, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    if (leaf == 7 && part == 0) {
        *b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31)); /* AVX-512 F to VL */
        *c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14)); /* AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
        *d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25)); /* AVX-512 others, AMX */
    } else if (leaf == 7 && part == 1) {
        *a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23)); /* AVX-VNNI, AVX-512 BF16, AMX FP16, AVX-IFMA */
        *d = 0;                                       /* AVX-VNNI-INT8, AVX10 and others */
    } else if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) {
        *a = *b = *c = *d = 0; /* AMX tiles, AVX10 */
    }
}

static void at_fault(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *at = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)at[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) { /* not CPUID: a fault of the program's own, which happens again */
        signal(signal_number, SIG_DFL);
        return;
    }
    unsigned leaf = at[REG_RAX], part = at[REG_RCX], a, b, c, d;
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(part));
    allow_cpuid(0);
    hide(leaf, part, &a, &b, &c, &d);
    at[REG_RAX] = a, at[REG_RBX] = b, at[REG_RCX] = c, at[REG_RDX] = d, at[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = at_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    sigaction(SIGSEGV, &action, NULL);
    if (allow_cpuid(0) != 0) {
        perror("avx2: this processor or its virtual machine cannot fault at CPUID");
        exit(2);
    }
}
