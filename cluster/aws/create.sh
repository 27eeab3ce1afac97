#!/usr/bin/env bash
# Makes what ray_cluster.yaml needs in an AWS account: bucket, roles of head and workers, security group.
#   cluster/aws/create.sh BUCKET REGION ADDRESS/32      ADDRESS: yours, the only one that may log in
# Running it again changes nothing but the policies and who may log in. Needs the aws cli, and the right to do this.
set -euo pipefail
export AWS_PAGER=""

if [[ $# -ne 3 || $3 != */* ]]; then
  echo "usage: $0 BUCKET REGION ADDRESS/32 (yours: \$(curl -s https://checkip.amazonaws.com)/32)" >&2
  exit 2
fi
bucket=$1 region=$2 address=$3
cluster=ristune
export AWS_DEFAULT_REGION=$region
here=$(cd "$(dirname "$0")" && pwd)
account=$(aws sts get-caller-identity --query Account --output text)

# A bucket that nobody else can read; a block of public access, and old parts of broken uploads thrown away.
if ! aws s3api head-bucket --bucket "$bucket" > /dev/null 2>&1; then
  if [[ $region == us-east-1 ]]; then
    aws s3api create-bucket --bucket "$bucket" > /dev/null
  else
    aws s3api create-bucket --bucket "$bucket" \
      --create-bucket-configuration "LocationConstraint=$region" > /dev/null
  fi
fi
aws s3api put-public-access-block --bucket "$bucket" --public-access-block-configuration \
  BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
aws s3api put-bucket-lifecycle-configuration --bucket "$bucket" --lifecycle-configuration \
  '{"Rules": [{"ID": "broken-uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]}'

# Closed to the world: all within the group, and ssh from one address.
vpc=$(aws ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[0].VpcId' --output text)
group=$(aws ec2 describe-security-groups --filters "Name=group-name,Values=$cluster" "Name=vpc-id,Values=$vpc" \
  --query 'SecurityGroups[0].GroupId' --output text)
if [[ $group == None ]]; then
  group=$(aws ec2 create-security-group --group-name "$cluster" --vpc-id "$vpc" \
    --description "Nodes of $cluster: all among themselves, ssh from its owner" --query GroupId --output text)
  aws ec2 authorize-security-group-ingress --group-id "$group" \
    --ip-permissions "IpProtocol=-1,UserIdGroupPairs=[{GroupId=$group}]" > /dev/null
fi
for old in $(aws ec2 describe-security-groups --group-ids "$group" \
  --query 'SecurityGroups[0].IpPermissions[].IpRanges[].CidrIp' --output text); do
  if [[ $old != "$address" ]]; then
    aws ec2 revoke-security-group-ingress --group-id "$group" --protocol tcp --port 22 --cidr "$old" > /dev/null
  else
    known=yes
  fi
done
if [[ -z ${known:-} ]]; then
  aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 22 --cidr "$address" > /dev/null
fi

policy() {
  sed -e "s/BUCKET/$bucket/g" -e "s/REGION/$region/g" -e "s/ACCOUNT/$account/g" -e "s/GROUP/$group/g" \
    -e "s/CLUSTER/$cluster/g" "$here/$1-policy.json"
}

for node in head worker; do
  role=$cluster-$node
  if ! aws iam get-role --role-name "$role" > /dev/null 2>&1; then
    aws iam create-role --role-name "$role" --assume-role-policy-document "$(policy trust)" > /dev/null
  fi
  aws iam put-role-policy --role-name "$role" --policy-name bucket --policy-document "$(policy bucket)"
  if ! aws iam get-instance-profile --instance-profile-name "$role" > /dev/null 2>&1; then
    aws iam create-instance-profile --instance-profile-name "$role" > /dev/null
    aws iam add-role-to-instance-profile --instance-profile-name "$role" --role-name "$role"
  fi
done
aws iam put-role-policy --role-name "$cluster-head" --policy-name workers --policy-document "$(policy head)"

# Spot machines need this once an account, and a head may not make it.
if ! aws iam get-role --role-name AWSServiceRoleForEC2Spot > /dev/null 2>&1; then
  aws iam create-service-linked-role --aws-service-name spot.amazonaws.com > /dev/null
fi

echo "at the top of ray_cluster.yaml:"
echo "  bucket: s3://$bucket"
echo "  region: &region $region"
echo "  security_groups: &security_groups [$group]"
