/* What the files of the core need of each other. Not for ports. */
#ifndef FB_PARTS_H
#define FB_PARTS_H

#include "core.h"

/* -- core.c: the state machine */

bool fb_passed(uint32_t now_us, uint32_t deadline_us);
bool fb_latched(const fb_core *c);
void fb_clear(void *memory, size_t size);
void fb_ramp_down(fb_core *c, uint8_t cause);
void fb_cut(fb_core *c, uint8_t state, uint8_t cause);

/* -- settings.c: limits and parameters */

extern const uint8_t fb_axis_mode[FB_AXES];
extern const uint32_t fb_compiled_acceleration[FB_AXES];

void fb_default_settings(fb_core *c);
void fb_pack_axis(const fb_core *c, uint8_t axis, uint8_t *payload);
uint32_t fb_limits_crc(const fb_core *c);
uint8_t fb_set_limits(fb_core *c, const fbm_limits_set *m);

/* Value and range of the parameter and axis in m, which may also be a limit. False if there is no such one. */
bool fb_describe_parameter(const fb_core *c, fbm_param *m);

/* The parameter's place in fb_core.parameters, or -1 if there is no such parameter or axis, or it is a limit. */
int fb_parameter_index(uint8_t parameter, uint8_t axis);
void fb_parameter_range(uint8_t parameter, uint8_t axis, int32_t *low, int32_t *high);
int32_t fb_axis_parameter(const fb_core *c, uint8_t parameter, int axis);
int32_t fb_device_parameter(const fb_core *c, uint8_t parameter);

/* -- faults.c: what the measurements say */

void fb_check_faults(fb_core *c, uint32_t elapsed_us);
void fb_raise_faults(fb_core *c);

/* -- motion.c: from targets to outputs, within the limits */

void fb_move(fb_core *c, uint32_t elapsed_us);
int32_t fb_clamp(int32_t value, int32_t low, int32_t high);

/* -- trajectory.c */

typedef struct {
    int64_t place; /* nrad */
    int32_t speed; /* mrad/s */
} fb_aim;

#if FB_TRAJECTORY_POINTS > 0
uint8_t fb_on_traj_push(fb_core *c, const fb_frame *frame);
void fb_follow_trajectory(fb_core *c);
fb_aim fb_trajectory_aim(const fb_core *c, int axis);
#endif

/* -- handlers.c: what each message does; NULL for an unknown type */

#define FB_ANY_LENGTH 0xFF

typedef struct {
    uint8_t type;
    uint8_t length; /* of the payload, or FB_ANY_LENGTH */
    bool sessionless;
    uint8_t (*act)(fb_core *c, const fb_frame *frame);
} fb_handler;

const fb_handler *fb_find_handler(uint8_t type);
uint8_t fb_judge_deadline(fb_core *c, uint32_t deadline_us);
uint8_t fb_refuse_command(fb_core *c, uint8_t code);
void fb_accept_command(fb_core *c, const fb_frame *frame, uint8_t clamped);

/* -- link.c: frames in and out */

#define FB_ANSWER_ROOM 0
#define FB_EVENT_ROOM 40
#define FB_STATE_ROOM 160 /* periodic messages leave this much of tx to answers and events */

void fb_handle(fb_core *c, const fb_frame *frame);
void fb_send(fb_core *c, uint8_t type, uint8_t session, uint8_t flags, fb_frame *frame, uint8_t length, uint16_t room);
void fb_record_event(fb_core *c);
void fb_send_periodic(fb_core *c);

#endif
