# Slot selection with a boot counter (three tries, then the other slot), then the kernel of that slot.
# U-Boot started this from the boot partition of ${devtype} ${devnum}.
setenv bootpart "${devtype} ${devnum}:1"
setenv scratch ${pxefile_addr_r}
setenv resin_root_part
setenv upgrade_available
setenv bootcount
setenv extra_os_cmdline
setenv extra_os_firmware_class_path
setenv trial
if test -e ${bootpart} /extra_uEnv.txt; then
  if load ${bootpart} ${scratch} extra_uEnv.txt; then
    env import -t -r ${scratch} ${filesize} extra_os_cmdline extra_os_firmware_class_path
  fi
fi
if load ${bootpart} ${scratch} resinOS_uEnv.txt; then
  env import -t -r ${scratch} ${filesize} resin_root_part upgrade_available
fi
if test -e ${bootpart} /bootcount.env; then
  if load ${bootpart} ${scratch} bootcount.env; then
    env import -t -r ${scratch} ${filesize} bootcount
  fi
fi
# The two roots are partition 2 and 3; anything else in a damaged file means the first.
setenv slot 2
setenv other 3
if test "${resin_root_part}" = "3"; then
  setenv slot 3
  setenv other 2
fi
if test "${upgrade_available}" = "1"; then
  if test -z "${bootcount}"; then setenv bootcount 0; fi
  # As words: to garbage, U-Boot would add a hexadecimal one for ever.
  if test "${bootcount}" = "0"; then
    setenv bootcount 1
  elif test "${bootcount}" = "1"; then
    setenv bootcount 2
  elif test "${bootcount}" = "2"; then
    setenv bootcount 3
  else
    setenv bootcount 4
    setenv swap ${slot}
    setenv slot ${other}
    setenv other ${swap}
  fi
  # Stage 1 restarts at once where a system that is no longer on trial would go on.
  if test "${bootcount}" != "4"; then setenv trial "minke.trial=${bootcount}"; fi
  env export -t ${scratch} bootcount
  fatwrite ${bootpart} ${scratch} bootcount.env ${filesize}
fi
# A slot whose kernel or initramfs cannot be read gives way to the other one: what stands in the memory from an earlier
# start must not be taken for it. On trial, the start has been counted.
setenv loaded
if load ${devtype} ${devnum}:${slot} ${kernel_addr_r} /boot/vmlinuz; then
  if load ${devtype} ${devnum}:${slot} ${ramdisk_addr_r} /boot/initramfs; then setenv loaded ${filesize}; fi
fi
if test -z "${loaded}"; then
  echo "minke: partition ${slot} has no kernel and initramfs that can be read"
  setenv slot ${other}
  setenv trial
  if load ${devtype} ${devnum}:${slot} ${kernel_addr_r} /boot/vmlinuz; then
    if load ${devtype} ${devnum}:${slot} ${ramdisk_addr_r} /boot/initramfs; then setenv loaded ${filesize}; fi
  fi
fi
if test -z "${loaded}"; then
  echo "minke: neither has partition ${slot}; once more"
  sleep 1
  reset
fi
setenv label resin-rootA
if test "${slot}" = "3"; then setenv label resin-rootB; fi
if test -n "${extra_os_firmware_class_path}"; then
  setenv extra_os_cmdline "${extra_os_cmdline} ${extra_os_firmware_class_path}"
fi
@BOARD@
echo "minke: U-Boot starts partition ${slot} (upgrade_available=${upgrade_available} bootcount=${bootcount})"
setenv rootpart "${devtype} ${devnum}:${slot}"
# The version's own arguments, the root image's hash among them.
setenv slot_arguments
if test -e ${rootpart} /boot/slot.env; then
  if load ${rootpart} ${scratch} /boot/slot.env; then env import -t -r ${scratch} ${filesize} slot_arguments; fi
else
  echo "minke: partition ${slot} has no /boot/slot.env; its kernel gets no arguments of its own"
fi
setenv bootargs "root=LABEL=${label} ro @ARGUMENTS@ ${board_arguments} ${trial} ${slot_arguments} ${extra_os_cmdline}"
@BOOT@ ${kernel_addr_r} ${ramdisk_addr_r}:${loaded} ${fdt_addr}
# Not reached when the kernel starts.
sleep 1
reset
