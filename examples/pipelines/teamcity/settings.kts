// .teamcity/settings.kts: keep the build whose form you want, and put ci/ into
// the repository. Parameters are the project's; those of the type password are
// masked.
import jetbrains.buildServer.configs.kotlin.*
import jetbrains.buildServer.configs.kotlin.buildFeatures.xmlReport
import jetbrains.buildServer.configs.kotlin.buildFeatures.XmlReport
import jetbrains.buildServer.configs.kotlin.buildSteps.script

version = "2024.12"

project {
    params {
        param("env.TARGET_NAMESPACE", "")
        param("env.TARGET_POD", "")
        param("env.TARGET_CONTAINER", "")
        param("env.PROFILE_PATH", "container-baseline")
        param("env.THRESHOLD", "moderate")
    }
    buildType(Direct)
    buildType(Container)
    buildType(Hub)
}

open class Compliance(title: String, shell: String) : BuildType({
    name = title
    artifactRules = "reeve-results => reeve-results"
    vcs { root(DslContext.settingsRoot) }
    steps {
        script {
            name = "Scan"
            scriptContent = shell
        }
    }
    features {
        xmlReport {
            reportType = XmlReport.XmlReportType.JUNIT
            rules = "reeve-results/junit.xml"
        }
    }
})

// reeve on the agent
object Direct : Compliance("Compliance, by reeve", """
    set -eu
    sh ci/reeve-scan.sh
""".trimIndent()) {
    init { params { password("env.KUBECONFIG_CONTENT", "credentialsJSON:reeve-kubeconfig") } }
}

// reeve's image
object Container : Compliance("Compliance, by its image", """
    set -eu
    sh ci/reeve-container.sh
""".trimIndent()) {
    init {
        params {
            password("env.KUBECONFIG_CONTENT", "credentialsJSON:reeve-kubeconfig")
            param("env.REEVE_IMAGE", "")
        }
    }
}

// the hub's API
object Hub : Compliance("Compliance, by the hub", """
    set -eu
    BUILD_KEY="teamcity-%teamcity.build.id%" sh ci/reeve-hub.sh
""".trimIndent()) {
    init {
        params {
            param("env.REEVE_HUB", "")
            param("env.REEVE_CA", "")
            param("env.REEVE_AGENT", "")
            password("env.REEVE_TOKEN", "credentialsJSON:reeve-token")
        }
    }
}
