/* From targets to outputs: speed, acceleration and position limits, held by time and not by message. */
#include "parts.h"

#define NRAD 1000000 /* nrad in a mrad; also us in a second */
#define FARTHEST_URAD (1ull << 38) /* keeps the product with the acceleration within 64 bits */

int32_t fb_clamp(int32_t value, int32_t low, int32_t high)
{
    if (value < low) return low;
    return value > high ? high : value;
}

static uint32_t square_root(uint64_t of)
{
    uint64_t root = 0;
    for (uint64_t bit = 1ull << 62; bit != 0; bit >>= 2) {
        if (of >= root + bit) {
            of -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}

/* The largest speed, mrad/s, from which an axis that goes on with it for one step more can still stop within the
 * distance: v dt + v^2 / 2a <= d, so v = sqrt((a dt)^2 + 2 a d) - a dt. */
static int32_t stoppable(int64_t distance_nrad, uint32_t acceleration, uint32_t elapsed_us)
{
    if (distance_nrad <= 0) return 0;
    uint64_t urad = (uint64_t)distance_nrad / 1000u;
    if (urad > FARTHEST_URAD) urad = FARTHEST_URAD;
    uint64_t gained = ((uint64_t)acceleration * elapsed_us + (NRAD - 1)) / NRAD;
    uint64_t root = square_root(gained * gained + 2u * (uint64_t)acceleration * urad / 1000u);
    return root <= gained ? 0 : (int32_t)(root - gained); /* below 2^26: see FARTHEST_URAD and board.py */
}

static void slew(fb_core *c, int i, int32_t wanted, uint32_t acceleration, uint32_t elapsed_us)
{
    int64_t missing = (int64_t)wanted - c->speed[i];
    uint64_t budget = (uint64_t)acceleration * elapsed_us + c->slew_rest[i];
    int64_t step = (int64_t)(budget / NRAD);
    if (missing <= step && missing >= -step) {
        c->speed[i] = wanted;
        c->slew_rest[i] = 0;
    } else {
        c->speed[i] += (int32_t)(missing > 0 ? step : -step);
        c->slew_rest[i] = (uint32_t)(budget % NRAD);
    }
}

/* The speed at which a position axis should go, before the acceleration limit. */
static int32_t pursue(const fb_core *c, int i, fb_aim aim, uint32_t elapsed_us)
{
    const fb_limits *limits = &c->limits[i];
    int32_t limit = (int32_t)limits->max_speed;
    int64_t lowest = (int64_t)limits->min_position * NRAD, highest = (int64_t)limits->max_position * NRAD;
    if (aim.place < lowest) aim.place = lowest;
    if (aim.place > highest) aim.place = highest;
    int64_t missing = aim.place - c->place[i] - (int64_t)aim.speed * elapsed_us;
    int64_t wanted = aim.speed;
    if (missing > 0) wanted += stoppable(missing, limits->max_acceleration, elapsed_us);
    else wanted -= stoppable(-missing, limits->max_acceleration, elapsed_us);
    if (wanted > limit) wanted = limit;
    if (wanted < -limit) wanted = -limit;

    int32_t up = stoppable(highest - c->place[i], limits->max_acceleration, elapsed_us);
    int32_t down = stoppable(c->place[i] - lowest, limits->max_acceleration, elapsed_us);
    return fb_clamp((int32_t)wanted, -down, up);
}

static int32_t wanted_speed(const fb_core *c, int i, uint32_t elapsed_us)
{
    if (c->state != FB_STATE_ACTIVE) return 0;
#if FB_TRAJECTORY_POINTS > 0
    if (c->moving) {
        fb_aim aim = fb_trajectory_aim(c, i);
        return fb_axis_mode[i] == FB_MODE_VELOCITY ? aim.speed : pursue(c, i, aim, elapsed_us);
    }
#endif
    if (!c->commanded[i]) return 0;
    if (fb_axis_mode[i] == FB_MODE_VELOCITY) return c->target[i];
    fb_aim aim = {.place = (int64_t)c->target[i] * NRAD, .speed = 0};
    return pursue(c, i, aim, elapsed_us);
}

/* Rounding can be off by a hair: an axis within its limits does not leave them, one outside does not go further. */
static void advance_place(fb_core *c, int i, uint32_t elapsed_us)
{
    int64_t lowest = (int64_t)c->limits[i].min_position * NRAD, highest = (int64_t)c->limits[i].max_position * NRAD;
    if (lowest > c->place[i]) lowest = c->place[i];
    if (highest < c->place[i]) highest = c->place[i];
    c->place[i] += (int64_t)c->speed[i] * elapsed_us;
    if (c->place[i] < lowest) c->place[i] = lowest;
    if (c->place[i] > highest) c->place[i] = highest;
}

void fb_move(fb_core *c, uint32_t elapsed_us)
{
#if FB_TRAJECTORY_POINTS > 0
    if (c->moving) fb_follow_trajectory(c);
#endif
    for (int i = 0; i < FB_AXES; i++) {
        bool active = c->state == FB_STATE_ACTIVE; /* a stop uses all of the deceleration that is there */
        uint32_t acceleration = active ? c->limits[i].max_acceleration : fb_compiled_acceleration[i];
        slew(c, i, wanted_speed(c, i, elapsed_us), acceleration, elapsed_us);
        if (fb_axis_mode[i] == FB_MODE_VELOCITY) {
            c->output[i] = c->speed[i];
        } else {
            advance_place(c, i, elapsed_us);
            c->output[i] = (int32_t)((c->place[i] + (c->place[i] < 0 ? -NRAD / 2 : NRAD / 2)) / NRAD);
        }
    }
}
