/* Attaching to a tap; see tap.h. */
#include "devices/backends/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backends/complain.h"

static bool exists(struct ifreq ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && !ioctl(fd, SIOCGIFINDEX, &ifr);

    if (fd >= 0)
        close(fd);
    return found;
}

static int refuse(const struct ifreq *ifr, int error)
{
    const char *name = ifr->ifr_name;

    if (error == EPERM && !exists(*ifr))
        return complain("--tap=%s: there is no such tap: make it with "
                        "ip tuntap add %s mode tap user $USER",
                        name, name);
    if (error == EPERM)
        return complain("--tap=%s: it belongs to another user", name);
    if (error == EBUSY)
        return complain("--tap=%s: another program uses it", name);
    if (error == EINVAL)
        return complain("--tap=%s: this interface is no tap", name);
    return complain("--tap=%s: %s", name, strerror(error));
}

int tap_open(const char *name, int header_size)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

    if (!*name || strlen(name) >= sizeof ifr.ifr_name)
        return complain("--tap=%s: a name has 1 to %zu bytes", name,
                        sizeof ifr.ifr_name - 1);
    memcpy(ifr.ifr_name, name, strlen(name));

    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return complain("--tap=%s: /dev/net/tun: %s", name, strerror(errno));
    if (ioctl(fd, TUNSETIFF, &ifr) < 0 ||
        ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, 0) < 0) {
        refuse(&ifr, errno);
        close(fd);
        return -1;
    }
    return fd;
}
