"""python-zeroconf on a host: browses _ssh._tcp, or publishes a service of _http._tcp; until it is killed."""

import ipaddress
import sys
import time
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf


def changed(zeroconf, service_type, name, state_change):
    if state_change is ServiceStateChange.Removed:
        print("removed", name, flush=True)
        return
    info = zeroconf.get_service_info(service_type, name)
    if info:
        addresses = " ".join(info.parsed_addresses())
        print("added", name, info.server, info.port, addresses, flush=True)


mode, address = sys.argv[1:]
zeroconf = Zeroconf(interfaces=[address])
if mode == "browse":
    browser = ServiceBrowser(zeroconf, "_ssh._tcp.local.", handlers=[changed])
else:
    zeroconf.register_service(ServiceInfo(
        "_http._tcp.local.", "zero._http._tcp.local.", port=8080, server="zero.local.",
        properties={"path": "/"}, addresses=[ipaddress.ip_address(address).packed]))
while True:
    time.sleep(1)
