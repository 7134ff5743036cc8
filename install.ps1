<#
.SYNOPSIS
Installs the ztna agent on a Windows machine, from the control plane that the machine is to join.

.DESCRIPTION
In a PowerShell of an administrator (Windows 10 1809, Server 2019, or newer; PowerShell 5.1 or 7):

    $env:ZTNA_AUTH_KEY = 'ztna-auth-…'
    & ([scriptblock]::Create((irm https://vpn.example.org/install.ps1))) -Server https://vpn.example.org

Nothing is installed that was not signed by the key below. What is downloaded is checked before anything of this machine
is touched, and the program is put into its place in one step. Running it again brings the machine to the release that
the control plane has for it.

.PARAMETER Server
The control plane (or ZTNA_SERVER).

.PARAMETER ServerPin
Pin of its certificate, if it is self-signed: sha256:HEX (or ZTNA_SERVER_PIN).

.PARAMETER ReleaseKey
File with the public key, in PEM, that releases are signed by.

.PARAMETER Wintun
wintun-0.14.1.zip of https://www.wintun.net, for machines that cannot download it.

.PARAMETER NoStart
Install only.

.PARAMETER Uninstall
Take the program and its service away; the machine's keys stay for the next time.

.PARAMETER Purge
Those, too.
#>
[CmdletBinding()]
param(
    [string] $Server = $env:ZTNA_SERVER,
    [string] $ServerPin = $env:ZTNA_SERVER_PIN,
    [string] $ReleaseKey,
    [string] $Wintun,
    [switch] $NoStart,
    [switch] $Uninstall,
    [switch] $Purge
)

Set-StrictMode -Version 3
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

# The public key of releases, in PEM. Who signs releases puts theirs here; -ReleaseKey names another.
$releaseKeyText = ''

$folder = Join-Path $env:ProgramFiles 'ztna'
$program = Join-Path $folder 'ztna.exe'
$driver = Join-Path $folder 'wintun.dll'
$state = Join-Path $env:ProgramData 'ztna'

# The driver of the tunnel device, as its makers have signed it. No package registry has it.
$wintunAddress = 'https://www.wintun.net/builds/wintun-0.14.1.zip'
$wintunSha256 = '07c256185d6ee3652e09fa55c0b673e2624b565e02c4b9091c79ca7d2f24ef51'
$wintunBytes = 8MB
$answerBytes = 64KB

# SubjectPublicKeyInfo of a key on P-256 (RFC 5480), up to the two coordinates of 32 bytes each.
$p256Prefix = '3059301306072a8648ce3d020106082a8648ce3d03010703420004'

function Say([string] $Text) { Write-Host "ztna: $Text" }
function Stop-Install([string] $Text) { throw "install.ps1: $Text" }

# ── Asking the control plane ─────────────────────────────────────────────────────────────────

# Accepts the certificate with one digest, whoever signed it. In C#: a script block has no place to run in when the
# connection asks.
$pinSource = @'
using System;
using System.Net.Http;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

public static class ZtnaPin
{
    public static string Found = "";

    public static Func<HttpRequestMessage, X509Certificate2, X509Chain, SslPolicyErrors, bool> Of(string wanted)
    {
        return (request, certificate, chain, errors) =>
        {
            using (var sha = SHA256.Create())
            {
                Found = BitConverter.ToString(sha.ComputeHash(certificate.RawData)).Replace("-", "").ToLowerInvariant();
            }
            return Found == wanted;
        };
    }
}
'@

function New-Client([string] $Pin) {
    Add-Type -AssemblyName System.Net.Http
    # Windows 10 of before 2019 offers TLS 1.0 to .NET unless it is told.
    [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
    $handler = [System.Net.Http.HttpClientHandler]::new()
    $handler.MaxAutomaticRedirections = 3
    if ($Pin) {
        if ($Pin -cnotmatch '^sha256:[0-9a-f]{64}\z') { Stop-Install '-ServerPin is not of the form sha256:<64 hex digits>' }
        if (-not ('ZtnaPin' -as [type])) {
            $assemblies = @('System.Net.Http')
            if ($PSVersionTable.PSVersion.Major -ge 6) {
                $assemblies += 'System.Net.Security', 'System.Security.Cryptography.X509Certificates',
                'System.Security.Cryptography.Algorithms', 'System.Security.Cryptography.Primitives',
                'System.Net.Primitives', 'System.Collections', 'System.Security.Cryptography', 'netstandard'
            }
            Add-Type -TypeDefinition $pinSource -ReferencedAssemblies $assemblies
        }
        $handler.ServerCertificateCustomValidationCallback = [ZtnaPin]::Of($Pin.Substring(7))
    }
    $client = [System.Net.Http.HttpClient]::new($handler)
    $client.Timeout = [TimeSpan]::FromMinutes(10)
    $client
}

# Bytes of an address, at most so many.
function Get-Bytes($Client, [string] $Address, [long] $Bytes) {
    $answer = $null
    try {
        $headersOnly = [System.Net.Http.HttpCompletionOption]::ResponseHeadersRead
        $answer = $Client.GetAsync($Address, $headersOnly).GetAwaiter().GetResult()
        $told = $answer.Content.Headers.ContentLength
        if ($null -ne $told -and $told -gt $Bytes) { Stop-Install "$Address is longer than it may be; nothing was installed" }
        $stream = $answer.Content.ReadAsStreamAsync().GetAwaiter().GetResult()
        $content = [System.IO.MemoryStream]::new()
        $buffer = New-Object byte[] 65536
        while (($count = $stream.Read($buffer, 0, $buffer.Length)) -gt 0) {
            if ($content.Length + $count -gt $Bytes) { Stop-Install "$Address is longer than it may be; nothing was installed" }
            $content.Write($buffer, 0, $count)
        }
        @{ Status = [int] $answer.StatusCode; Content = $content.ToArray() }
    } catch {
        $why = $_.Exception
        if ("$why" -match 'install\.ps1: ') { throw }
        while ($why.InnerException) { $why = $why.InnerException }
        if ($ServerPin -and ('ZtnaPin' -as [type]) -and [ZtnaPin]::Found -and "sha256:$([ZtnaPin]::Found)" -ne $ServerPin) {
            Stop-Install "$Server has the certificate sha256:$([ZtnaPin]::Found), not the pinned one; nothing was installed"
        }
        Stop-Install "cannot reach ${Address}: $($why.Message) Nothing was installed"
    } finally {
        if ($answer) { $answer.Dispose() }
    }
}

function Get-Release($Client, [string] $Target) {
    $answer = Get-Bytes $Client "$Server/api/client-version?target=$Target" $answerBytes
    $text = [Text.Encoding]::UTF8.GetString($answer.Content)
    $told = $null
    try { $told = ConvertFrom-Json $text } catch { Write-Verbose "no JSON: $text" }
    if ($answer.Status -ne 200) {
        $why = "HTTP $($answer.Status)"
        if ($told -and $told.PSObject.Properties['error'] -and $told.error) { $why = $told.error.message }
        Stop-Install "$Server has no release for this machine ($Target): $why"
    }
    $release = $null
    if ($told -and $told.PSObject.Properties['data']) { $release = $told.data }
    # Whatever does not look as it must is none.
    $patterns = @{
        version   = '^[0-9A-Za-z.+-]{1,64}\z'
        target    = "^$Target\z"
        path      = '^/api/releases/[0-9A-Za-z.+_/-]{1,256}\z'
        size      = '^[0-9]{1,10}\z'
        sha256    = '^[0-9a-f]{64}\z'
        signature = '^[0-9A-Za-z+/=]{1,256}\z'
    }
    foreach ($name in $patterns.Keys) {
        $value = $null
        if ($release -and $release.PSObject.Properties[$name]) { $value = [string] $release.$name }
        if ($value -cnotmatch $patterns[$name]) {
            Stop-Install "what $Server says of its release is not understood; is it a ztna control plane?"
        }
    }
    $release
}

# ── Checking ─────────────────────────────────────────────────────────────────────────────────

function Get-Sha256([byte[]] $Bytes) {
    $sha = [Security.Cryptography.SHA256]::Create()
    try { [BitConverter]::ToString($sha.ComputeHash($Bytes)).Replace('-', '').ToLowerInvariant() } finally { $sha.Dispose() }
}

# The key of a PEM file. PowerShell 5.1 reads none by itself.
function Read-ReleaseKey([string] $Pem) {
    $refusal = 'the release key is no public key on the curve P-256, in PEM'
    if ($Pem -notmatch '(?s)-----BEGIN PUBLIC KEY-----(.+?)-----END PUBLIC KEY-----') { Stop-Install $refusal }
    $body = $Matches[1] -replace '\s', ''
    try { $der = [Convert]::FromBase64String($body) } catch { Stop-Install $refusal }
    $hex = [BitConverter]::ToString($der).Replace('-', '').ToLowerInvariant()
    if ($der.Length -ne 91 -or -not $hex.StartsWith($p256Prefix)) { Stop-Install $refusal }
    $point = New-Object Security.Cryptography.ECPoint
    $point.X = [byte[]] $der[27..58]
    $point.Y = [byte[]] $der[59..90]
    $parameters = New-Object Security.Cryptography.ECParameters
    $parameters.Curve = [Security.Cryptography.ECCurve]::CreateFromFriendlyName('nistP256')
    $parameters.Q = $point
    [Security.Cryptography.ECDsa]::Create($parameters)
}

# DER to the two numbers of 32 bytes that .NET takes. $null: it is no signature.
function ConvertFrom-DerSignature([byte[]] $Der) {
    $numbers = New-Object byte[] 64
    if ($Der.Length -lt 8 -or $Der[0] -ne 0x30 -or $Der[1] -ne $Der.Length - 2) { return $null }
    $at = 2
    foreach ($end in 32, 64) {
        if ($at + 2 -gt $Der.Length -or $Der[$at] -ne 0x02) { return $null }
        $length = [int] $Der[$at + 1]
        $at += 2
        if ($length -lt 1 -or $length -gt 33 -or $at + $length -gt $Der.Length) { return $null }
        # A leading zero keeps it positive.
        $skip = [Math]::Max(0, $length - 32)
        if ($skip -and $Der[$at] -ne 0) { return $null }
        [Array]::Copy($Der, $at + $skip, $numbers, $end - ($length - $skip), $length - $skip)
        $at += $length
    }
    if ($at -ne $Der.Length) { return $null }
    , $numbers
}

# Checks the signature first: it says which file to expect.
function Test-Signature($Key, $Release) {
    $statement = "ztna release 1`n$($Release.version)`n$($Release.target)`n$($Release.sha256)`n"
    $bytes = [Text.Encoding]::UTF8.GetBytes($statement)
    $der = $null
    try { $der = [Convert]::FromBase64String($Release.signature) } catch { return $false }
    $signature = ConvertFrom-DerSignature $der
    if ($null -eq $signature) { return $false }
    $Key.VerifyData($bytes, $signature, [Security.Cryptography.HashAlgorithmName]::SHA256)
}

# ── Installing ───────────────────────────────────────────────────────────────────────────────

# The driver's library for this processor, out of the pinned archive.
function Get-Driver($Client, [string] $Architecture) {
    if ($Wintun) {
        if (-not (Test-Path -LiteralPath $Wintun -PathType Leaf)) { Stop-Install "cannot read $Wintun" }
        $archive = [IO.File]::ReadAllBytes((Resolve-Path -LiteralPath $Wintun).ProviderPath)
    } else {
        $answer = Get-Bytes $Client $wintunAddress $wintunBytes
        if ($answer.Status -ne 200) {
            Stop-Install "cannot download the tunnel's driver from ${wintunAddress}: HTTP $($answer.Status); download it elsewhere and give it with -Wintun FILE. Nothing was installed"
        }
        $archive = $answer.Content
    }
    if ((Get-Sha256 $archive) -cne $wintunSha256) {
        Stop-Install "the tunnel's driver is not the one that this script knows: it was changed on its way, or cut off; nothing was installed"
    }
    Add-Type -AssemblyName System.IO.Compression
    $zip = [System.IO.Compression.ZipArchive]::new([System.IO.MemoryStream]::new([byte[]] $archive))
    try {
        $entry = $zip.GetEntry("wintun/bin/$Architecture/wintun.dll")
        if (-not $entry) { Stop-Install "the tunnel's driver is not made for this processor ($Architecture)" }
        $stream = $entry.Open()
        $content = [System.IO.MemoryStream]::new()
        $stream.CopyTo($content)
        $stream.Dispose()
        , $content.ToArray()
    } finally { $zip.Dispose() }
}

function Test-Same([string] $File, [string] $Sha256) {
    (Test-Path -LiteralPath $File -PathType Leaf) -and (Get-Sha256 ([IO.File]::ReadAllBytes($File))) -ceq $Sha256
}

# Runs the program; what it says is shown. Whether it did it.
function Invoke-Program([string[]] $Arguments) {
    # PowerShell 5.1 takes a line on standard error for a fault of its own.
    $ErrorActionPreference = 'Continue'
    & $program @Arguments 2>&1 | ForEach-Object { Write-Host "$_" }
    $LASTEXITCODE -eq 0
}

# What a program says of its version. $null: it does not run.
function Get-ProgramVersion([string] $File) {
    $ErrorActionPreference = 'Continue'
    try { $said = & $File --version 2>$null } catch { return $null }
    if ($LASTEXITCODE -ne 0) { return $null }
    "$said"
}

function Install-Agent {
    if (-not $Server) { Stop-Install '-Server is missing; see Get-Help' }
    if ($Server -cnotmatch '^https://[A-Za-z0-9.:/_\[\]-]+\z') { Stop-Install "-Server has to begin with https://, and ``$Server`` is no such address" }
    $script:Server = $Server.TrimEnd('/')
    $pem = $releaseKeyText
    if ($ReleaseKey) {
        if (-not (Test-Path -LiteralPath $ReleaseKey -PathType Leaf)) { Stop-Install "cannot read the release key $ReleaseKey" }
        $pem = Get-Content -LiteralPath $ReleaseKey -Raw
    }
    if (-not $pem) { Stop-Install 'this copy names no release key: give -ReleaseKey, or take the one that your operator serves' }
    $key = Read-ReleaseKey $pem

    # PowerShell 5.1 on ARM runs as another processor's program; the system says which it is.
    $processor = (Get-ItemProperty 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager\Environment').PROCESSOR_ARCHITECTURE
    switch ($processor) {
        'AMD64' { $target = 'windows-x86_64'; $architecture = 'amd64' }
        'ARM64' { $target = 'windows-aarch64'; $architecture = 'arm64' }
        default { Stop-Install "there is no agent for this processor ($processor)" }
    }

    $client = New-Client $ServerPin
    $plain = New-Client ''
    $work = Join-Path $folder ('new-' + [Guid]::NewGuid().ToString('N'))
    try {
        $release = Get-Release $client $target
        if (-not (Test-Signature $key $release)) {
            Stop-Install "the release $($release.version) of $Server is not signed by the release key; nothing was installed. Tell its operator"
        }
        $fresh = $null
        if (-not (Test-Same $program $release.sha256)) {
            $answer = Get-Bytes $client "$Server$($release.path)" ([long] $release.size)
            if ($answer.Status -ne 200) { Stop-Install "$Server does not give release $($release.version) out: HTTP $($answer.Status); nothing was installed" }
            $fresh = $answer.Content
            if ((Get-Sha256 $fresh) -cne $release.sha256) {
                Stop-Install "what was downloaded is not the signed release $($release.version): it was changed on its way, or cut off; nothing was installed"
            }
        }
        $library = $null
        if (-not (Test-Path -LiteralPath $driver -PathType Leaf)) { $library = Get-Driver $plain $architecture }

        if ($null -eq $fresh) { Say "$program is release $($release.version) already" }
        if ($null -ne $fresh -or $null -ne $library) {
            # In the folder of the program, which only administrators write to, so that the last step is a rename.
            New-Item -ItemType Directory -Force -Path $work | Out-Null
        }
        if ($null -ne $fresh) {
            $beside = Join-Path $work 'ztna.exe'
            [IO.File]::WriteAllBytes($beside, $fresh)
            # Before it takes the old one's place: it may be built for a newer system than this.
            if ($null -eq (Get-ProgramVersion $beside)) {
                Stop-Install "release $($release.version) does not run on this machine ($([Environment]::OSVersion.VersionString)); nothing was installed. Tell its operator"
            }
        }
        if ($null -ne $library) {
            $newDriver = Join-Path $work 'wintun.dll'
            [IO.File]::WriteAllBytes($newDriver, $library)
            Move-Item -LiteralPath $newDriver -Destination $driver
        }
        if ($null -ne $fresh) {
            # A program that runs may be renamed and not overwritten.
            $old = Join-Path $folder 'ztna.exe.old'
            if (Test-Path -LiteralPath $old) { Remove-Item -LiteralPath $old -Force -ErrorAction SilentlyContinue }
            if (Test-Path -LiteralPath $old) { $old = Join-Path $folder ('ztna.exe.old-' + [Guid]::NewGuid().ToString('N')) }
            $replaced = Test-Path -LiteralPath $program
            if ($replaced) { Move-Item -LiteralPath $program -Destination $old }
            try {
                Move-Item -LiteralPath $beside -Destination $program
            } catch {
                if ($replaced) { Move-Item -LiteralPath $old -Destination $program }
                throw
            }
            Say "$program is release $($release.version) now"
        }
    } finally {
        if (Test-Path -LiteralPath $work) { Remove-Item -LiteralPath $work -Recurse -Force }
        $client.Dispose()
        $plain.Dispose()
    }

    $arguments = @('install')
    if ($NoStart) { $arguments += '--no-start' }
    if (-not (Invoke-Program $arguments)) { Stop-Install "ztna $($release.version) is there and its service is not; see above, then run: & '$program' install" }
    Add-ToPath
    if ($NoStart) { return }
    $connect = @('--server', $Server)
    if ($ServerPin) { $connect += '--server-pin', $ServerPin }
    if ($env:ZTNA_AUTH_KEY) {
        # The key goes by the environment: others of this machine see what is on a command line.
        if (-not (Invoke-Program (@('up') + $connect))) { Stop-Install "ztna $($release.version) is installed and did not join; see above, then run: ztna up" }
        return
    }
    Say "to join: ztna login $connect; ztna up, in a terminal of an administrator"
}

function Add-ToPath {
    $path = [Environment]::GetEnvironmentVariable('Path', 'Machine')
    if (($path -split ';') -notcontains $folder) {
        [Environment]::SetEnvironmentVariable('Path', "$($path.TrimEnd(';'));$folder", 'Machine')
        $env:Path = "$($env:Path.TrimEnd(';'));$folder"
        Say "$folder is in PATH, for terminals that are opened from now on"
    }
}

function Uninstall-Agent {
    if (Test-Path -LiteralPath $program) {
        if (-not (Invoke-Program @('uninstall'))) { Stop-Install "the service is still there; see above, then run: & '$program' uninstall" }
    }
    if (Test-Path -LiteralPath $folder) { Remove-Item -LiteralPath $folder -Recurse -Force }
    $path = [Environment]::GetEnvironmentVariable('Path', 'Machine')
    $rest = @($path -split ';' | Where-Object { $_ -and $_ -ne $folder }) -join ';'
    if ($rest -ne $path) { [Environment]::SetEnvironmentVariable('Path', $rest, 'Machine') }
    if ($Purge) {
        if (Test-Path -LiteralPath $state) { Remove-Item -LiteralPath $state -Recurse -Force }
        Say "removed, with the machine's keys; delete it from the organisation, too"
    } elseif (Test-Path -LiteralPath $state) {
        Say "removed; the machine's keys are left in $state (-Purge takes them, too)"
    } else {
        Say 'removed'
    }
}

function Main {
    if (-not $env:ProgramFiles -or -not $env:ProgramData) { Stop-Install 'this is for Windows; elsewhere use install.sh' }
    $user = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
    if (-not $user.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
        Stop-Install "open PowerShell as an administrator and run it there: it writes $folder and registers a service"
    }
    if ($Uninstall) { Uninstall-Agent } else { Install-Agent }
}

# Last, so that half of this file does nothing.
Main
