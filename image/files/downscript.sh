#!/bin/sh
# The VPN is down (spec os §14.3).
rm -f /run/openvpn/vpn_status/active
