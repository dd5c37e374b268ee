# An AMI with everything that a machine of fleet needs. `fleet bake aws` runs it; by hand:
#   packer build -var package=DIRECTORY -var manifest=FILE -var name=NAME -var region=us-east-1 aws.pkr.hcl
# Packer 1.7 and newer want plugins, which `fleet bake` names from ../versions.toml. Credentials come from AWS's own chain.

variable "package" {
  type        = string
  description = "The directory that `fleet bake` fills: scripts, units, pinned lists, the wheel."
}

variable "manifest" {
  type        = string
  description = "Where Packer writes the image's id."
}

variable "region" {
  type = string
}

variable "profile" {
  type    = string
  default = ""
}

variable "source_ami" {
  type        = string
  default     = ""
  description = "An AMI to begin with. Without one: the newest that the next two find."
}

variable "source_filters" {
  type    = map(string)
  default = {}
}

variable "source_owners" {
  type    = list(string)
  default = []
}

variable "instance_type" {
  type        = string
  default     = "c7i.xlarge"
  description = "GPU software is installed on a machine without a GPU too: none is paid for."
}

variable "subnet_id" {
  type    = string
  default = ""
}

variable "ssh_username" {
  type    = string
  default = "ubuntu"
}

variable "disk_gib" {
  type    = number
  default = 50
}

variable "gpu" {
  type        = string
  default     = "1"
  description = "Empty: without driver and container toolkit."
}

variable "image" {
  type        = string
  default     = ""
  description = "The container image to have at hand."
}

variable "name" {
  type = string
}

variable "tags" {
  type    = map(string)
  default = {}
}

variable "endpoint_url" {
  type        = string
  default     = ""
  description = "Of a cloud that speaks EC2's API."
}

source "amazon-ebs" "machine" {
  region              = var.region
  profile             = var.profile
  custom_endpoint_ec2 = var.endpoint_url
  source_ami          = var.source_ami
  source_ami_filter {
    filters     = var.source_filters
    owners      = var.source_owners
    most_recent = true
  }
  instance_type = var.instance_type
  subnet_id     = var.subnet_id
  communicator  = "ssh"
  ssh_username  = var.ssh_username
  ami_name      = var.name
  tags          = var.tags
  # Not the tag of the cluster: its dispatcher would take the machine for one of its own that it has lost, and end it.
  run_tags = {
    "fleet:bake" = var.name
  }
  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_size           = var.disk_gib
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }
  # Of a bake that is lost nothing is left but a machine that is off.
  shutdown_behavior = "terminate"
}

build {
  sources = ["source.amazon-ebs.machine"]

  provisioner "shell" {
    inline = ["[ ! -d /run/systemd/system ] || timeout 300 cloud-init status --wait >/dev/null || true", "rm -rf /tmp/fleet-package && mkdir -p /tmp/fleet-package"]
  }
  provisioner "file" {
    source      = "${var.package}/"
    destination = "/tmp/fleet-package"
  }
  provisioner "shell" {
    inline = [
      "sudo rm -rf /opt/fleet-package && sudo cp -r /tmp/fleet-package /opt/fleet-package && sudo chown -R root:root /opt/fleet-package",
      "sudo env FLEET_GPU=${var.gpu} FLEET_CPU_ONLY=${var.gpu == "" ? "1" : ""} FLEET_IMAGE=${var.image} bash /opt/fleet-package/provision/run.sh bake",
    ]
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
