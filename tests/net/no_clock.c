/* Preloaded into OpenNTPD, which serves nobody before it has steered a clock: it steers none, and believes that it does. */
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

int adjtime(const struct timeval *delta, struct timeval *old)
{
    if (old)
        memset(old, 0, sizeof *old);
    return 0;
}

int adjtimex(struct timex *timex)
{
    timex->freq = 0;
    timex->status = 0;
    return TIME_OK;
}

int ntp_adjtime(struct timex *timex)
{
    return adjtimex(timex);
}

int settimeofday(const struct timeval *time, const struct timezone *zone)
{
    return 0;
}

int clock_settime(clockid_t clock, const struct timespec *time)
{
    return 0;
}
