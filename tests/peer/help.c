/*
 * The manual of the test back-end, as --help prints it.
 */
#include "peer.h"

static const char what_it_is[] =
"husk-peer: a vhost-user back-end that judges the front-end, and misbehaves\n"
"when told to.\n"
"\n"
"Connection (one of them)\n"
"  --socket-path=PATH     listen there; one connection after the other\n"
"  --listen-fd=N          the same on a bound, listening socket\n"
"  --fd=N                 one connected socket; ends when it is hung up\n"
"  --connections=N        end after N connections (listening only)\n"
"\n"
"What it is\n"
"  --dialect=D   specs (default): 41 is answered with four numbers\n"
"                messages: 41, 42 and 43 with one each\n"
"                none: protocol feature 18 is not offered; 41 hangs up\n"
"                shared-object: 18 is offered but means SHARED_OBJECT\n"
"                ignore: 18 is offered, 41 is passed over\n"
"  --at-41=A     whatever the dialect, at 41: hangup, ignore, silence (no\n"
"                answer to anything any more), zero (a reply of 0 bytes),\n"
"                u64 (of 8 bytes), short (of 12 bytes)\n"
"  --id=N (4)  --min-vqs=N (1)  --max-vqs=N (1)\n"
"  --queue-num=N          what GET_QUEUE_NUM says (max-vqs)\n"
"  --config=HEX           the bytes of the config space\n"
"  --config-size=N        its size; without --config a pattern\n"
"  --features=HEX         all 64 bits (28, 29, 30, 32)\n"
"  --protocol=HEX         protocol features (0, 3, 5, 9, 13, 15, 16); bit 18\n"
"                         is decided by --dialect\n"
"  --mem-slots=N (8)      what GET_MAX_MEM_SLOTS says\n"
"  --shmem=N[,N...]       sizes of shared memory regions\n"
"  --specs-extra=N        N more bytes in the specs reply\n"
"  --fill=HEX (a5)        byte that served buffers are filled with\n"
"  --echo                 readable buffers are copied to the writable ones\n"
"\n";

static const char what_it_expects[] =
"What it expects\n"
"  --allow-inband         in-band notifications may be acknowledged\n"
"  --forbid-probe         bit 18 and request 41 are violations\n"
"  --reconnected          rings may begin where an earlier back-end stopped\n"
"  --forget               connections are judged each on its own\n"
"  --kick-limit=MS        each ring is kicked so long after DRIVER_OK at the\n"
"                         latest (10000; 0: never judged)\n"
"  --answer-limit=MS      back-end requests are answered by then (10000)\n"
"  --no-poison            stopped rings' kick descriptors are left alone;\n"
"                         otherwise the peer writes to them, and finds that\n"
"                         again if they are handed out unemptied\n"
"  --lenient              say violations, but go on\n"
"\n";

static const char faults[] =
"Faults. REQUEST is a name (SET_VRING_NUM) or a number, REQUEST#N the Nth of\n"
"its kind on a connection.\n"
"  --latency=MS           answers go MS after the first message of a batch\n"
"  --drip=MS              one byte at a time, MS apart\n"
"  --die-at=REQUEST[:N]   exit with status 4 when it arrives\n"
"  --hang-at=REQUEST[:N]  no answers from there on\n"
"  --cut=REQUEST:BYTES    hang up after so many bytes of its reply\n"
"  --mutate=REQUEST:FIELD=VALUE  FIELD is request, flags, size (the reply is\n"
"                         cut or padded to it, up to 64 KiB), or pN, wN, qN:\n"
"                         1, 4 or 8 bytes at offset N of the payload\n"
"  --attach-fds=REQUEST:N N descriptors on its reply\n"
"  --faults-once          those five on the first connection only\n"
"  --refuse-features      FEATURES_OK is not kept\n"
"  --refuse-num=N         SET_VRING_NUM above N is refused: by the answer if\n"
"                         one is asked for, else by hanging up\n"
"  --no-call              used buffers are never signalled\n"
"  --spurious-call[=MS]   call descriptors are signalled each MS (10)\n"
"  --ignore-kick-until-enabled[=hard]  a kick is lost if it certainly came\n"
"                         before ring and driver were ready; hard: if it is\n"
"                         seen before that, however late it was sent\n"
"  --vring-err-after=N    after N buffers the ring's ERR is signalled and the\n"
"                         ring is served no more\n"
"  --config-change=MS     while the device runs: all config bytes one up,\n"
"                         CONFIG_CHANGE sent and its answer awaited\n"
"  --config-changes=N     so often (0: for ever)\n"
"  --backend-request=N    send back-end request N; it has to be refused\n"
"  --truncate-memory      try ftruncate on guest memory; it has to fail\n"
"\n"
"Output\n"
"  --log=FILE             a line for each message: milliseconds, connection,\n"
"                         batch (what was read until the socket was empty)\n"
"  --stats                counts at the end. waits: how often answers went to\n"
"                         a front-end that had no more to say; exact with\n"
"                         --latency, which gives it the time to say all\n"
"\n"
"Exit status: 0 the front-end hung up or SIGTERM came, 1 the host failed,\n"
"2 usage, 3 violation (one line on stderr, peer: violation: ...), 4 --die-at\n";

void options_help(void)
{
    fputs(what_it_is, stdout);
    fputs(what_it_expects, stdout);
    fputs(faults, stdout);
}
