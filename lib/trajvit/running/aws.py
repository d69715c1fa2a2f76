"""Amazon's interfaces: one way to call them, and what their refusals come to in one line."""

from functools import cache

from trajvit.settings import InputError

MEANINGS = {
    "AccessDenied": "these credentials may not do that",
    "AccessDeniedException": "these credentials may not do that",
    "UnauthorizedOperation": "these credentials may not do that",
    "AuthFailure": "the credentials are not accepted: check them",
    "InvalidClientTokenId": "the access key is unknown: check the credentials",
    "UnrecognizedClientException": "the access key is unknown: check the credentials",
    "SignatureDoesNotMatch": "the secret key is wrong: check the credentials",
    "ExpiredToken": "the credentials have expired: log in again",
    "ExpiredTokenException": "the credentials have expired: log in again",
    "RequestExpired": "the credentials have expired, or this machine's clock is wrong",
    "OptInRequired": "the account is not signed up for that region",
    "InsufficientInstanceCapacity": "Amazon has none of these machines free now: try later, another --instance, or no --spot",
    "SpotMaxPriceTooLow": "Amazon has none of these machines free as spot now: try later, another --instance, or no --spot",
    "MaxSpotInstanceCountExceeded": "the account's quota of spot machines is used up: ask for more under Service Quotas",
    "VcpuLimitExceeded": "the account's quota of such machines is used up: ask for more under Service Quotas",
    "InstanceLimitExceeded": "the account's quota of such machines is used up: ask for more under Service Quotas",
}


class Refusal(InputError):
    """What Amazon refused, in one line, and the `code` that it gave."""

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


def call(service: str, operation: str, **arguments) -> dict:
    """Amazon's answer to one call, such as `call("ec2", "describe_vpcs")`.

    Raises `Refusal` where Amazon says no, and `InputError` for missing credentials or region and where it is silent.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = _client(service)
        return getattr(client, operation)(**arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        meaning = MEANINGS.get(code) or error.response["Error"].get("Message", "")
        name = client.meta.method_to_api_mapping[operation]
        raise Refusal(f"{service}:{name} is refused with {code}: {' '.join(meaning.split())}", code) from None
    except BotoCoreError as error:
        raise InputError(_unable(error)) from None


def region() -> str:
    """The region that the AWS settings name. Raises `InputError` where they name none."""
    from boto3 import Session
    from botocore.exceptions import BotoCoreError

    try:
        name = Session().region_name
    except BotoCoreError as error:
        raise InputError(_unable(error)) from None
    if not name:
        raise InputError("no AWS region is chosen: run 'aws configure', or set AWS_DEFAULT_REGION=us-east-1")
    return name


def _client(service: str):
    from boto3 import Session

    return _kept_client(service, Session().region_name)


@cache
def _kept_client(service: str, region_name: str | None):
    from boto3 import Session
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 4})
    return Session().client(service, region_name=region_name, config=config)


def _unable(error: Exception) -> str:
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return "no AWS credentials: run 'aws configure', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if name in ("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError", "LoginRefreshRequired"):
        return "the AWS login has expired: run 'aws sso login'"
    if name == "NoRegionError":
        return "no AWS region is chosen: run 'aws configure', or set AWS_DEFAULT_REGION=us-east-1"
    return f"Amazon cannot be asked ({' '.join(str(error).split())}): check the network, AWS_PROFILE and AWS_ENDPOINT_URL"
