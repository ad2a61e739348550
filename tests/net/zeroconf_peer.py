"""python-zeroconf on a host: browses _ssh._tcp, publishes a service of _http._tcp under a name, or another when somebody has
that ("rename"), or prints which IPv4 addresses its cache has for ours.local whenever they change, without asking; until
it is killed."""

import ipaddress
import sys
import time
from zeroconf import (NonUniqueNameException, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf,
                      current_time_millis)


def changed(zeroconf, service_type, name, state_change):
    if state_change is ServiceStateChange.Removed:
        print("removed", name, flush=True)
        return
    info = zeroconf.get_service_info(service_type, name, timeout=30_000)
    if info:
        addresses = " ".join(info.parsed_addresses())
        print("added", name, info.server, info.port, addresses, flush=True)


mode, address, *names = sys.argv[1:]
zeroconf = Zeroconf(interfaces=[address])
if mode == "watch":
    before = None
    while True:
        now = current_time_millis()
        records = [record for record in zeroconf.cache.entries_with_name("ours.local.") if record.type == 1]
        known = sorted(str(ipaddress.ip_address(record.address)) for record in records if not record.is_expired(now))
        if known != before:
            print("known", *known, "", flush=True)
            before = known
        time.sleep(0.1)
if mode == "browse":
    browser = ServiceBrowser(zeroconf, "_ssh._tcp.local.", handlers=[changed])
else:
    [name] = names or ["zero"]
    service = ServiceInfo(
        "_http._tcp.local.", f"{name}._http._tcp.local.", port=8080, server="zero.local.",
        properties={"path": "/"}, addresses=[ipaddress.ip_address(address).packed])
    try:
        zeroconf.register_service(service, allow_name_change=mode == "rename")
        print("published", service.name, flush=True)
    except NonUniqueNameException:
        print("taken", service.name, flush=True)
while True:
    time.sleep(1)
