/* The motor firmware without a machine: bytes and time go in, outputs and bytes come out.
 *
 * Nothing here allocates, blocks, uses floating point or knows a clock. now_us is the device time in microseconds; it
 * wraps every 71.6 minutes, and the core must be called at least every 35. Not reentrant: call from one context.
 */
#ifndef FB_CORE_H
#define FB_CORE_H

#include "frame.h"

#define FB_TX_BYTES (304 + 16 * FB_AXES) /* STATE, STATS, TIME_RSP and what parts.h keeps free, all in one tick */
#define FB_ANSWERS 8
#define FB_EVENTS 4
#define FB_PARAMETERS (FB_DEVICE_PARAMETERS + FB_AXIS_PARAMETERS * FB_AXES)

#define FB_TASK_CONTROL 1u /* fb_tick has run and its outputs are on the motors */
#define FB_TASK_LINK 2u    /* the line has been read, with or without bytes */
#define FB_TASK_SAFETY 4u  /* stop button, driver, currents, supply and encoders have been looked at */

typedef struct {
    uint32_t boot_id; /* random per start */
    uint8_t reset_cause; /* as in HELLO_ACK; 1, watchdog, starts in FAULT */
    uint8_t uid[12];
    uint8_t firmware[40]; /* name and version, filled up with zeros */
} fb_identity;

typedef struct {
    uint8_t seq, type, code;
    bool valid;
    uint32_t at_us;
} fb_answer;

typedef struct {
    uint32_t period_us; /* 0: not wanted */
    uint32_t sent_us;
} fb_stream;

typedef struct {
    uint32_t max_speed;        /* mrad/s */
    uint32_t max_acceleration; /* mrad/s^2 */
    int32_t min_position, max_position; /* mrad; both 0 for a velocity axis */
} fb_limits;

/* A port reads state, output, drive, tx and tx_length after fb_receive and fb_tick, and writes position, velocity, current,
 * supply_mv and temperature_dc before fb_tick. The rest is nobody else's business. Small and busy fields come first: a
 * Cortex-M0 reaches them with shorter instructions. */
typedef struct {
    uint8_t state; /* FB_STATE_* */
    uint8_t reported_state, after_stop, stop_cause;
    uint8_t session, last_session, last_seq, tx_seq;
    bool seen_seq, lease_fresh, engaged_once;
    uint8_t disengaged, rejected, command_seq, clamped;
    uint8_t next_answer, tasks;
    uint8_t events, event_number; /* how many wait for EVENT_ACK; the newest one's number */
#if FB_TRAJECTORY_POINTS > 0
    bool moving; /* a trajectory commands the axes */
    uint8_t queued;
#endif
    uint16_t tx_length;
    uint16_t challenge;
    uint16_t supply_mv;     /* 0: not measured */
    int16_t temperature_dc; /* 0.1 degC; -32768: not measured */

    uint32_t now_us, epoch, ticked_us; /* epoch counts the wraps */
    uint32_t faults, fault_inputs, fault_measured;
    uint32_t lease_expire_us, armed_us, stopped_us, applied_us;
    uint32_t nonce, random;
    fb_stream event_stream, state_stream, stats_stream;
    fbm_stats stats;

    uint8_t drive[FB_AXES];  /* FB_DRIVE_*: what the motor driver has to do */
    bool commanded[FB_AXES];
    int16_t current[FB_AXES];  /* mA */
    int32_t output[FB_AXES];   /* mrad/s or, for a position axis, mrad; counts only where drive is FB_DRIVE_ON */
    int32_t position[FB_AXES]; /* mrad, from the encoders; without any, the output of a position axis */
    int32_t velocity[FB_AXES]; /* mrad/s */
    int32_t target[FB_AXES];
    int32_t speed[FB_AXES]; /* mrad/s: of the output */
    uint32_t valid_until_us[FB_AXES];
    uint32_t slew_rest[FB_AXES];
    uint32_t over_current_us[FB_AXES], encoder_us[FB_AXES], under_voltage_us; /* for how long already */
    int64_t place[FB_AXES];    /* nrad: output of a position axis, finer */
    fb_limits limits[FB_AXES]; /* in force */
    int32_t parameters[FB_PARAMETERS];

    fb_identity identity;
    fb_answer answers[FB_ANSWERS];
    fbm_event event[FB_EVENTS]; /* not acknowledged yet, oldest first */
    fb_decoder decoder;
    uint8_t tx[FB_TX_BYTES]; /* bytes for the line */
#if FB_TRAJECTORY_POINTS > 0
    fbm_point queue[FB_TRAJECTORY_POINTS];
    fbm_point from; /* the last point passed; behind the queue, as sanitizers do not watch an array at the very end */
#endif
} fb_core;

void fb_init(fb_core *core, const fb_identity *identity, uint32_t now_us);

/* Bytes from the line. Answers are in tx afterwards; an ESTOP has already cut the outputs. */
void fb_receive(fb_core *core, const uint8_t *bytes, size_t length, uint32_t now_us);

/* One control step: deadlines, faults, motion, periodic messages. Call every millisecond or so, then apply output and
 * drive. */
void fb_tick(fb_core *core, uint32_t now_us);

/* The faults that the port sees at this moment (FB_FAULT_*); each latches FAULT and cuts the outputs at once. */
void fb_set_faults(fb_core *core, uint32_t present);

/* The hardware stop button; latches like the ESTOP message. */
void fb_estop(fb_core *core);

/* Forget the first bytes of tx: they are on the line. */
void fb_sent(fb_core *core, uint16_t bytes);

/* The rule of the hardware watchdog: each task says that it has run, and the watchdog is fed when fb_watchdog_due says
 * so, which it does once after all three have run. */
void fb_task_ran(fb_core *core, uint8_t task);
bool fb_watchdog_due(fb_core *core);

#endif
