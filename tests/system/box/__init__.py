"""A cloud in a box: what it launches are whole virtual machines.

A machine is systemd as PID 1 in a systemd-nspawn container, with cloud-init, an instance metadata service at
169.254.169.254, and its own address in a network that exists for the tests alone. Root is needed, and Debian's packages
systemd-container and mmdebstrap; cgroups v1, v2 and both at once will do.
"""
