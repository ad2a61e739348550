#!/bin/sh
# The VPN is up: the client has its addresses (spec os §14.3).
: > /run/openvpn/vpn_status/active
