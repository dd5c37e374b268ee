"""The fields of the launch forms of ClearML's autoscaler applications, and the key of fleet that each is.

Held to the tables "ClearML's field -> fleet's key" in docs/configuration.md by tests/config/test_clearml_fields.py. The file that the
applications export is not documented, so its names are taken as the pages "AWS Autoscaler", "GCP Autoscaler" and "GPU Compute" have the
labels, in whatever spelling, or as ClearML's open `aws_autoscaler.yaml` has them.
"""

from __future__ import annotations

import re

# Label -> key. A key of a resource begins with `resources.*.`; empty: by design there is none, and the table says why.
AWS = {
    "Import / Export Configuration": "",
    "Use IAM role": "",
    "AWS Region": "resources.*.region",
    "Access Key ID": "resources.*.access_key",
    "Secret Access Key": "resources.*.secret_key",
    "Git User": "agent.git.user",
    "Git Password / Personal Access Token": "agent.git.token",
    "Max Idle Time": "resources.*.idle_timeout",
    "Spin down instances on Autoscaler shutdown": "on_shutdown",
    "Workers Prefix": "cluster",
    "Polling Interval": "poll_interval",
    "Use docker mode": "agent.mode",
    "Base Docker Image": "agent.image",
    "Resource Name": "resources",
    "EC2 Instance Type": "resources.*.instance_types",
    "Run in CPU mode": "resources.*.cpu_only",
    "Use Spot Instance": "resources.*.market",
    "Regular Instance Rollback": "resources.*.market",
    "Regular Instance Rollback Timeout": "resources.*.fallback_after",
    "Spot Instance Blackout Period": "resources.*.blackout",
    "Place tags on resources": "resources.*.tags",
    "Availability Zone": "resources.*.zones",
    "AMI ID or image name": "resources.*.image",
    "Max Number of Instances": "resources.*.max_instances",
    "Monitored Queue": "queues.*.resources",
    "EC2 Tags": "resources.*.tags",
    "EBS Device": "resources.*.disk_device",
    "EBS Volume Size": "resources.*.disk_gib",
    "EBS Volume Type": "resources.*.disk_type",
    "Instance Key Pair": "resources.*.key_name",
    "Security Group ID": "resources.*.security_groups",
    "VPC Subnet ID": "resources.*.subnets",
    "Use IAM instance profile": "resources.*.iam_instance_profile",
    "IAM Instance Profile Arn": "resources.*.iam_instance_profile",
    "IAM Instance Profile Name": "resources.*.iam_instance_profile",
    "Autoscaler Instance Name": "cluster",
    "Apply Task Owner Vault Configuration": "agent",
    "Warn if more than one instance is executing the same task": "",
    "Exclude .bashrc script": "",
    "Ignore vault parsing errors": "",
    "Init script": "resources.*.init_script",
    "Additional ClearML Configuration": "agent.extra_conf",
    "Custom Launch Spec": "resources.*.launch_spec",
    "Run with Service Account": "resources.*.role_arn",
}
GCP = {
    "GCP Project ID": "resources.*.project",
    "GCP Zone": "resources.*.zones",
    "Use full subnet path": "resources.*.subnets",
    "Subnet Full Path": "resources.*.subnets",
    "Subnet Name": "resources.*.subnets",
    "GCP Credentials": "resources.*.credentials",
    "Machine Type": "resources.*.instance_types",
    "GPU Type": "resources.*.gpu_type",
    "Use Preemptible Instance": "resources.*.market",
    "Preemptible Provision Model": "resources.*.provisioning_model",
    "Machine Image": "resources.*.image",
    "Disc Size": "resources.*.disk_gib",
    "Use default service account": "resources.*.service_account",
    "Service Account Email": "resources.*.service_account",
    "Service Account Scopes": "resources.*.scopes",
    "Metadata": "resources.*.metadata",
    "Global Metadata": "resources.*.metadata",
}
COMPUTE = {
    "GPU Type": "resources.*.instance_types",
    "Number of GPUs": "resources.*.instance_types",
    "Monitored Queue": "queues.*.resources",
    "Cloud Machine Limit": "resources.*.max_instances",
    "Idle Time Limit": "resources.*.idle_timeout",
    "Default Docker Image": "agent.image",
    "Git user": "agent.git.user",
    "Git password": "agent.git.token",
    "Cloud Storage Access credentials": "agent.storage",
    "Import configuration": "",
}
FORMS = {"aws": AWS, "gcp": {**AWS, **GCP}, "genesis": {**AWS, **COMPUTE}}
# Other words for the same: those of aws_autoscaler.yaml, and of GCP's form where only a word differs.
ALIASES = {
    "instance_type": "EC2 Instance Type",
    "ami_id": "AMI ID or image name",
    "is_spot": "Use Spot Instance",
    "ebs_device_name": "EBS Device",
    "key_name": "Instance Key Pair",
    "security_group_ids": "Security Group ID",
    "subnet_id": "VPC Subnet ID",
    "cpu_only": "Run in CPU mode",
    "tags": "EC2 Tags",
    "max_idle_time_min": "Max Idle Time",
    "polling_interval_time_min": "Polling Interval",
    "git_pass": "Git Password / Personal Access Token",
    "git_password": "Git Password / Personal Access Token",
    "default_docker_image": "Base Docker Image",
    "extra_vm_bash_script": "Init script",
    "extra_clearml_conf": "Additional ClearML Configuration",
    "cloud_credentials_key": "Access Key ID",
    "cloud_credentials_secret": "Secret Access Key",
    "cloud_credentials_region": "AWS Region",
    "aws_region": "AWS Region",
    "aws_access_key_id": "Access Key ID",
    "aws_secret_access_key": "Secret Access Key",
    "queue": "Monitored Queue",
    "queue_name": "Monitored Queue",
    "num_instances": "Max Number of Instances",
    "max_instances": "Max Number of Instances",
    "Preemptible Instance Blackout Period": "Spot Instance Blackout Period",
    "iam_arn": "IAM Instance Profile Arn",
    "iam_name": "IAM Instance Profile Name",
    "Disk Size": "Disc Size",
}
# Only one form has them: they tell which it is.
OF_ONE = {"gcp": GCP.keys() - COMPUTE.keys(), "genesis": {"Number of GPUs", "Cloud Machine Limit", "Idle Time Limit"}}


def bare(name: str) -> str:
    """Without case, space, signs, units and what stands in brackets."""
    words = re.sub(r"\(.*?\)", " ", name).lower()
    return re.sub(r"(min|mins|minutes|gb|gib)$", "", re.sub(r"[^a-z0-9]+", "_", words).strip("_")).replace("_", "")


def labels_of(form: str) -> dict[str, str]:
    """Bare name -> label, of one form."""
    labels = FORMS[form]
    found = {bare(label): label for label in labels}
    known = {bare(name): label for name, label in ALIASES.items()}
    same = {
        name: next(own for own in labels if bare(own) == bare(label))
        for name, label in known.items()
        if bare(label) in found
    }
    return {**same, **found}
